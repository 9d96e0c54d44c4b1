"""The characters that printed texts are made of."""

# The 500 commonest characters (by the frequencies of jieba's dictionary), the most frequent first.
COMMON_500 = (
    "一是人了不在有大中国和为这上他个地年来我会以到时要出的生学说道民家子也成行下们于后就发自之对得主长可过天作分方用"
    "多你着部能市等业全里工公经本都而高政法面门动日进区事代那去心小同北定开产前其军还然起种所如现理机体表力好外与文当"
    "两实重新三么只山水关明从化平建又制南内西没此将员名手最东头者月间无安看见各城十相但已些正口通想度加第她合院物性战"
    "由位常点海意场武使次二向治因立数样身情入原问把路被并利石老教万知级量任江及应省资委务元美特期世湖回系比气汉总展电"
    "科金先声提品设或义王社很统处四首共马形己儿司太目基领队直计别女权话少流命至报米给打变果书清活几州华解议更称程今决"
    "张导术府才保交放管结师便走达族反再题色五京河接条规式县白它改风光运信受什组听布百济党指论强做取技黄神选记斯真却职"
    "号界件花类何眼兵传带空干农边据集联古广完质阳难增历史专官每住商即步认车台林必死游举线言皇土团收考求德叫近备研争非"
    "具李众连调感转笑革该持始英克士尔让拉思根格造较际亲单朝红型价校约器字段周亚深候则功属积快图火千准究往极育装许参半"
    "令吃观鱼精办像帝八复影告远群包整构料随划算象容示投势热值夫网望源息语股铁断派速怎需片爱律纪支早况病境证编"
)
# And some that stand on signs, menus and labels.
OFTEN_PRINTED = (
    "且觉确切识笔钱酒找吗六飞音七九愿您青店满呢脸友夜黑房雨买站超服画照父母木男园班够球苦星急左右村食香树诗春夏秋冬云"
    "鸟牛羊狗猫雪草田玉竹茶饭菜肉蛋奶糖盐油药医衣鞋帽床桌窗灯楼桥街巷镇乡沪港湾岛洋谷岩沙银铜船欢迎临谢禁止请勿休福喜"
    "吉祥免费"
)
CHINESE = COMMON_500 + OFTEN_PRINTED

LATIN_UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LATIN_LOWER = "abcdefghijklmnopqrstuvwxyz"
DIGITS = "0123456789"
# Glyphs that many fonts draw alike (O and 0, l and I and 1): arbitrary strings mostly do without them.
AMBIGUOUS = set("O0oIl1|")
MARKS = "-:./$€£%&!?'#,+"
