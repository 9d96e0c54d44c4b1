"""What the demo model knows by name: everyday things, geometric shapes and colours, in English and Chinese.

The order of THINGS and then SHAPES is the order in which a description lists them.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A countable kind: `en` and `zh` are the words of the answers, the synonyms appear in questions only."""

    key: str
    en: str
    plural: str
    zh: str
    measure: str
    emoji: tuple[str, ...] = ()
    en_more: tuple[tuple[str, str], ...] = ()
    zh_more: tuple[str, ...] = ()

    @property
    def article(self) -> str:
        return "an" if self.en[0] in "aeiou" else "a"


def _kind(line: str) -> Kind:
    """`en|plural|zh|measure|emoji …|en synonym/plural …|zh synonym …`"""
    en, plural, zh, measure, emoji, en_more, zh_more = (part.strip() for part in line.split("|"))
    pairs = tuple(tuple(pair.strip().split("/")) for pair in en_more.split(",") if pair.strip())
    return Kind(en.replace(" ", "_"), en, plural or en + "s", zh, measure, tuple(emoji.split()), pairs, tuple(zh_more.split()))


_THINGS = """
cat||猫|只|🐱 🐈|kitty/kitties,kitten/kittens|小猫 猫咪 猫猫
dog||狗|只|🐶 🐕|puppy/puppies,doggy/doggies|小狗 狗狗 犬
rabbit||兔子|只|🐰 🐇|bunny/bunnies,hare/hares|小兔子 兔
bear||熊|只|🐻||狗熊 小熊
panda||熊猫|只|🐼||大熊猫
lion||狮子|只|🦁||
pig||猪|头|🐷 🐖|piglet/piglets|小猪
cow||牛|头|🐮 🐄||奶牛
horse||马|匹|🐴 🐎|pony/ponies|
sheep|sheep|羊|只|🐑|lamb/lambs|绵羊 小羊
elephant||大象|头|🐘||象
monkey||猴子|只|🐵 🐒||猴
chicken||鸡|只|🐔 🐓|hen/hens,rooster/roosters|公鸡 母鸡
duck||鸭子|只|🦆||鸭 小鸭子
owl||猫头鹰|只|🦉||
penguin||企鹅|只|🐧||小企鹅
frog||青蛙|只|🐸||蛙
turtle||乌龟|只|🐢|tortoise/tortoises|海龟 龟
fish|fish|鱼|条|🐟 🐠||小鱼
whale||鲸鱼|头|🐳 🐋||鲸
octopus|octopuses|章鱼|只|🐙||八爪鱼
crab||螃蟹|只|🦀||蟹
snail||蜗牛|只|🐌||
butterfly|butterflies|蝴蝶|只|🦋||
bee||蜜蜂|只|🐝|honeybee/honeybees|
snake||蛇|条|🐍||
apple||苹果|个|🍎 🍏||
banana||香蕉|根|🍌||
orange||橙子|个|🍊|tangerine/tangerines|橘子 桔子
lemon||柠檬|个|🍋||
strawberry|strawberries|草莓|个|🍓||
bunch of grapes|bunches of grapes|葡萄|串|🍇||
watermelon||西瓜|块|🍉||
pineapple||菠萝|个|🍍||
pear||梨|个|🍐||梨子
peach|peaches|桃子|个|🍑||桃
carrot||胡萝卜|根|🥕||
mushroom||蘑菇|个|🍄||
pizza||披萨|块|🍕||比萨
hamburger||汉堡|个|🍔|burger/burgers|汉堡包
cake||蛋糕|个|🎂|birthday cake/birthday cakes|生日蛋糕
ice cream||冰淇淋|个|🍦||冰激凌
donut||甜甜圈|个|🍩|doughnut/doughnuts|
cookie||饼干|块|🍪|biscuit/biscuits|曲奇
cup||杯子|个|☕|mug/mugs,coffee cup/coffee cups|咖啡杯
car||汽车|辆|🚗 🚙|automobile/automobiles|小汽车 轿车 车
bus|buses|公交车|辆|🚌||巴士 公共汽车
truck||卡车|辆|🚚 🚛|lorry/lorries|货车
bicycle||自行车|辆|🚲|bike/bikes|单车
motorcycle||摩托车|辆|🏍|motorbike/motorbikes|摩托
train||火车|列|🚂|locomotive/locomotives|
plane||飞机|架|✈|airplane/airplanes,aeroplane/aeroplanes|
helicopter||直升机|架|🚁||直升飞机
rocket||火箭|枚|🚀||
boat||船|艘|⛵|sailboat/sailboats,ship/ships|帆船 小船
football||足球|个|⚽|soccer ball/soccer balls|
basketball||篮球|个|🏀||
umbrella||雨伞|把|☂ ☔||伞
book||书|本|📕 📗 📘||书本
clock||时钟|个|⏰|alarm clock/alarm clocks|闹钟 钟
key||钥匙|把|🔑||
phone||手机|部|📱|mobile phone/mobile phones,smartphone/smartphones|电话
camera||相机|台|📷||照相机
computer||电脑|台|💻|laptop/laptops|笔记本电脑
television||电视|台|📺|TV/TVs|电视机
guitar||吉他|把|🎸||
balloon||气球|个|🎈||
gift||礼物|个|🎁|present/presents|礼盒
hat||帽子|顶|🎩||
shoe||鞋子|只|👟|sneaker/sneakers|鞋 运动鞋
chair||椅子|把|🪑||
light bulb||灯泡|个|💡|bulb/bulbs|
hammer||锤子|把|🔨||榔头
bell||铃铛|个|🔔||铃
house||房子|座|🏠|home/homes|屋子
tree||树|棵|🌳 🌲||大树
flower||花|朵|🌸 🌻 🌷||花朵
cactus|cacti|仙人掌|棵|🌵||
sun||太阳|个|☀ 🌞||
moon||月亮|个|🌙||
cloud||云|朵|☁||云朵
rainbow||彩虹|道|🌈||
snowman|snowmen|雪人|个|⛄||
maple leaf|maple leaves|枫叶|片|🍁||
"""

_SHAPES = """
circle||圆形|个||disc/discs,round shape/round shapes|圆 圆圈
square||正方形|个|||方块
triangle||三角形|个|||三角
rectangle||长方形|个|||矩形
star||五角星|个|||星星 星形
heart||爱心|个||heart shape/heart shapes|心形 心
diamond||菱形|个||rhombus/rhombuses|
pentagon||五边形|个|||
hexagon||六边形|个|||
oval||椭圆形|个||ellipse/ellipses|椭圆
cross|crosses|十字|个||plus sign/plus signs,plus/pluses|十字形 加号
arrow||箭头|个|||
"""

THINGS: list[Kind] = [_kind(line) for line in _THINGS.strip().splitlines()]
SHAPES: list[Kind] = [_kind(line) for line in _SHAPES.strip().splitlines()]
KINDS: dict[str, Kind] = {kind.key: kind for kind in THINGS + SHAPES}
ORDER: dict[str, int] = {key: place for place, key in enumerate(KINDS)}


def _between(first: str, last: str) -> frozenset[str]:
    keys = list(KINDS)
    return frozenset(keys[keys.index(first) : keys.index(last) + 1])


# Words for several kinds: they appear in questions of number only.
CLASSES: dict[str, tuple[frozenset[str], tuple[str, ...], tuple[str, ...], str]] = {
    "animal": (_between("cat", "snake"), ("animals",), ("动物", "小动物"), "只"),
    "fruit": (_between("apple", "peach"), ("fruits", "pieces of fruit"), ("水果",), "个"),
    "vehicle": (_between("car", "boat"), ("vehicles",), ("交通工具",), "个"),
}


@dataclass(frozen=True)
class Colour:
    """A named colour and its range: hue in degrees, saturation and value in percent (HSV)."""

    key: str
    zh: str
    hue: tuple[float, float]
    sat: tuple[float, float]
    val: tuple[float, float]


COLOURS: dict[str, Colour] = {
    c.key: c
    for c in (
        Colour("red", "红色", (-8, 6), (78, 100), (72, 100)),
        Colour("orange", "橙色", (22, 34), (82, 100), (92, 100)),
        Colour("yellow", "黄色", (49, 59), (70, 100), (90, 100)),
        Colour("green", "绿色", (98, 145), (55, 100), (40, 85)),
        Colour("blue", "蓝色", (210, 238), (68, 100), (62, 100)),
        Colour("purple", "紫色", (268, 290), (55, 100), (45, 85)),
        Colour("pink", "粉色", (325, 348), (28, 55), (95, 100)),
        Colour("brown", "棕色", (16, 30), (58, 85), (32, 55)),
        Colour("black", "黑色", (0, 360), (0, 12), (0, 12)),
        Colour("white", "白色", (0, 360), (0, 3), (97, 100)),
        Colour("gray", "灰色", (0, 360), (0, 5), (42, 66)),
        Colour("cyan", "青色", (174, 188), (70, 100), (75, 100)),
    )
}

NUMBERS_EN = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
NUMBERS_ZH = ["零", "一", "两", "三", "四", "五", "六", "七", "八", "九", "十"]
