"""The questions in their many wordings, and the one canonical answer to each.

A wording is a pattern: `(a|b|)` picks one branch, `{X}` is a slot. `ask(kind, lang, rng, **slots)` draws a
question; patterns are expanded at random and then roughened as people type (case, marks, politeness).
"""

import re
from functools import lru_cache

from things import CLASSES, COLOURS, KINDS, NUMBERS_EN, NUMBERS_ZH, ORDER

# ---------------------------------------------------------------- shared fragments
_FRAGMENTS = {
    "<pic>": "(picture|picture|image|image|photo|pic|photograph|screenshot)",
    "<the>": "(the|this|the|this|my)",
    "<in>": "( in <the> <pic>| in <the> <pic>| here| in it|||)",
    "<on>": "( (in|on) <the> <pic>| here|||)",
    "<pls>": "(please |can you |could you |could you please ||||||)",
    "<图>": "(图|图片|照片|图像|画|这张图|这张图片|这张照片|这幅图|这个图片|画面)",
    "<里>": "((图|图片|照片|图像|画面|这张图|这张图片|这张照片|这幅图|这幅画)(里|里|中|上|里面|里边|上面)|图中|图里|这里|这里面||)",
    "<里必>": "((图|图片|照片|图像|画面|这张图|这张图片|这张照片|这幅图)(里|里|中|上|里面|里边|上面)|图中|图里|画面中)",
    "<请>": "(请|请你|帮我|麻烦|请问|你好,|||||)",
    "<问>": "(请问|你好,请问||||||)",
    "<啥>": "(什么|什么|啥|些什么|些啥|什么东西|啥东西)",
}

# ---------------------------------------------------------------- patterns by kind and language
_PATTERNS = {
    "describe": {
        "en": [
            "(what is|what's|whats) in <the> <pic>",
            "(what is|what's) (shown|there|visible|drawn|pictured|to see) (in|on) <the> <pic>",
            "what (do|can) you (see|find|recognise|recognize|make out)<in>",
            "what (do|can) (you|we|i) see (in|on) <the> <pic>",
            "<pls>describe (<the> <pic>|it|this|what you see|the scene|what is in <the> <pic>)( for me|)",
            "what (does|do) <the> <pic> (show|contain|depict)",
            "(what is|what's|whats) (this|that|it|shown here|here|there)",
            "(what things|what objects|which things|which objects|what stuff|what) are (there|shown|)<in>",
            "<pls>(list|name) (everything|all things|the things|all the things|what you see|all objects|the objects)<in>",
            "<pls>(tell me|say|explain) (what is|what's|what you see) in <the> <pic>",
            "<pls>(tell me|say) what (you see|this is|it is|is there|this <pic> shows)",
            "what am i looking at",
            "(what is|what's) (this|the) <pic> (of|about)",
            "<pls>(give me a|write a|a) (short |brief |) (description|caption|summary)( of <the> <pic>| for <the> <pic>|)",
            "(explain|caption|summarise|summarize) <the> <pic>",
            "(what do we have|what have we got|what is there|anything interesting)<in>",
            "(what|which) (animal|fruit|thing|object|shape|item)s? (is|are) (this|that|there|it|in <the> <pic>)",
            "(can you see|do you see|do you recognise|can you tell) what (this is|is in <the> <pic>|it is)",
            "what is the content of <the> <pic>",
            "(look at|check) <the> <pic>(, what is it| and tell me what it is|, what do you see)",
        ],
        "zh": [
            "<里必>(有|都有|是)<啥>(呢|呀|啊|)",
            "<图>(里|里面|中|上)?(有|都有|画的是|画了|拍的是|拍了|是)<啥>(呢|呀|)",
            "(这|这个|那|它|这张图|这张图片|这张照片|这幅图)是(什么|啥|什么东西|个啥)(呢|呀|啊|)",
            "<请>(描述|描述一下|形容一下|介绍一下|说一下|说说|讲讲|说明|说明一下|解释一下)(<图>|这张图|这张图片的内容|图片内容|画面|图片|这张照片)",
            "(你|)(能|可以|)(看到|看见|看到了|看见了)(了|)<啥>",
            "(你|)(在|从|)<里必>(能|可以|)(看到|看见|看到了)<啥>",
            "<里必>(有|都有)(哪些|什么|些什么)(东西|物体|内容|事物)",
            "<请>(告诉我|说出|说说|列出|看看)<里必>(有|都有)<啥>",
            "(有|都有|是)(什么|啥|些什么|哪些东西|什么东西)(呢|呀|)",
            "(图片|照片|画面|图像|图)(的|)内容(是什么|是啥|)",
            "(这|图|图片|照片)(里|里面|上)?(画的|拍的|显示的)(是|都是)<啥>",
            "<请>(识别|看看|看一下|认一下)(这张图|图片|这张图片|这是什么|图里有什么)",
        ],
    },
    "count": {
        "en": [
            "how many {Xs} (are there|are in <the> <pic>|are shown|are visible|do you see|can you see|can you find|can you count|do you count)<in>",
            "how many {Xs} are there<in>",
            "how many {Xs}<in>",
            "how many {Xs} (does|do) <the> <pic> (have|show|contain)",
            "<pls>count (the|all|all the|) {Xs}<in>( for me|)",
            "<pls>(tell me|say) how many {Xs} (there are|you see|you can see|are there)<in>",
            "(what is|what's|give me|tell me) the (number|count|amount) of {Xs}<in>",
            "(the |)(number|amount) of {Xs}<in>",
            "(exactly|so) how many {Xs} (are there|do you see)<in>",
            "how many {Xs} (have we got|do we have|are we looking at)<in>",
        ],
        "zh": [
            "<问><里>(一共|总共|共|)有(几|几|几|多少){M}{X}(呢|啊|呀|)",
            "<问><里>(一共|总共|共|)有多少{X}(呢|啊|)",
            "(有|一共有|总共有|共有)(几{M}|多少|多少{M}){X}(呢|啊|呀|)",
            "<请>(数一下|数一数|数数|数数看|告诉我)<里>(一共|)有(几{M}|多少|多少{M}){X}",
            "(几|多少){M}{X}(呢|啊|)",
            "{X}(一共|总共|)有(几{M}|多少{M}|多少)(呢|啊|)",
            "<里必>(的|){X}(一共|)有(几{M}|多少|多少{M}|几个)",
            "(你|)(能|)(看到|看见)(了|)(几|多少){M}{X}",
            "{X}的(数量|个数|数目)(是多少|是几|)",
            "<里必>(有|是)(几|多少){M}{X}",
        ],
    },
    "count_more": {
        "en": ["(and |)how many {Xs}( are there|)", "and {Xs}", "and (the|) {Xs}", "(what|how) about (the |){Xs}", "(and |)(what|how) about {Xs}",
               "and how many {Xs} (are there|do you see|can you see)", "ok(ay|), and {Xs}", "and the number of {Xs}"],
        "zh": ["(那|那么|还有|)(有|)(几|多少){M}{X}(呢|)", "(那|那么|还有|){X}呢", "(那|那么){X}(有|)(几{M}|多少|多少{M})(呢|)", "(那|){X}(有|)几{M}", "那有多少{X}(呢|)"],
    },
    "total": {
        "en": [
            "how many (things|objects|items) are there( in all| in total| altogether|)<in>",
            "how many (things|objects|items) (do|can) you see( in all| in total| altogether|)<in>",
            "<pls>count (the|all|all the) (things|objects|items)<in>",
            "(what is the|the) (total |)number of (things|objects|items)<in>",
            "how many (things|objects|items) (in all|in total|altogether)<in>",
        ],
        "zh": [
            "<里>(一共|总共|共)有(几|多少)个?(东西|物体|物品)(呢|)",
            "<里必>(一共|总共|共|)有(几个|多少个|多少)(东西|物体|物品)(呢|)",
            "<请>(数一下|数一数)(一共|总共|)有(几个|多少个|多少)(东西|物体|物品)",
            "(东西|物体|物品)(一共|总共)有(几个|多少个|多少)",
        ],
    },
    "shapes": {
        "en": ["how many shapes are there( in all| in total|)<in>", "how many shapes (do|can) you see<in>", "<pls>count (the|all|all the) shapes<in>", "how many shapes<in>"],
        "zh": ["<里>(一共|总共|共|)有(几|多少)个(图形|形状|几何图形)(呢|)", "<请>(数一下|数一数)(有|)(几个|多少个)(图形|形状)", "(图形|形状)(一共|)有(几个|多少个)"],
    },
    "colour": {
        "en": [
            "(what|which) <colour> is the {X}<in>",
            "what <colour> (does|has) the {X} (have|got)",
            "(what is|what's) the <colour> of the {X}<in>",
            "(what is|what's) the {X}'s <colour>",
            "<pls>(tell me|name|say) the <colour> of the {X}",
            "(of |)(what|which) <colour> is (the|this|that) {X}",
            "(in |)(what|which) <colour> is the {X} (drawn|painted|shown)",
            "the {X} is what <colour>", "the {X} (has|is) which <colour>", "(the |){X} <colour>",
            "is the {X} red, blue or what <colour>",
        ],
        "zh": [
            "<问><里>(的|){X}是(什么|啥|哪种|什么样的)(颜色|色)(的|)(呢|啊|)",
            "(那个|这个|那|这|){X}(是|)(什么|啥|哪种)(颜色|色)(的|)(呢|啊|)",
            "{X}的颜色(是什么|是啥|是哪种|呢|是)",
            "<请>(告诉我|说说|说出|看看)(那个|这个|){X}(的颜色|是什么颜色的|是什么颜色|是啥颜色)",
            "<里必>(那个|的|){X}(是|)(什么|啥)颜色(的|)(呢|)",
            "(什么|啥)颜色的{X}", "{X}(什么|啥)色",
        ],
    },
    "colour_more": {
        "en": ["and the {X}", "and (what|which) <colour> is the {X}", "(what|how) about the {X}", "and what about the {X}", "and the <colour> of the {X}"],
        "zh": ["(那|那么|还有|){X}呢", "(那|那么){X}是(什么|啥)颜色(的|)(呢|)", "{X}的颜色呢"],
    },
    "colour_it": {
        "en": ["(and |)what <colour> is it", "(and |)which <colour> is it", "what is its <colour>", "(and |)its <colour>", "what's its <colour>", "(and |)what <colour> does it have"],
        "zh": ["(它|那它|那|)是(什么|啥)颜色(的|)(呢|)", "(它的|)颜色呢", "(那|)它的颜色(是什么|是啥|呢)", "(什么|啥)颜色(的|)"],
    },
    "what_shape": {
        "en": ["(what|which) shape is {C}<in>", "what is the {C} (shape|thing|figure|one)<in>", "(what|which) {C} shape (is there|do you see|can you see|is it)<in>", "what shape is the {C} (one|thing|figure)"],
        "zh": ["(哪个|什么)(图形|形状)是{C}的", "{C}的(是什么|是啥|图形是什么|图形是啥|是什么图形|是什么形状|是哪个图形|那个是什么)", "{C}(图形|形状)是(什么|啥)"],
    },
    "position": {
        "en": [
            "where is the {X}<in>", "where is the {X}<in>", "where's the {X}<in>",
            "where (in|on) <the> <pic> is the {X}",
            "<pls>(tell me|say|show me) where the {X} is<in>",
            "(in |on |)(what|which) (part|side|corner|area) (of <the> <pic> |)is the {X}( in| on|)",
            "(what is|what's) the (position|location|place) of the {X}<in>",
            "where (can i|do you|can you) (find|see|spot) the {X}<in>",
            "where (does|did) the {X} (sit|stand|appear)<in>", "where is the {X} (located|placed|positioned|to be found)<in>",
            "(find|locate) the {X}<in>", "the {X} is where",
            "is the {X} (on the left or on the right|on the left, on the right or in the middle)",
        ],
        "zh": [
            "<问><里>(的|){X}在(哪里|哪儿|哪|什么地方|什么位置|哪个位置|哪个方向|哪边)(呢|啊|)",
            "(那{M}|这{M}|){X}在(<图>的|<图>|图中|画面中|图里|)(哪里|哪儿|哪|什么地方|什么位置|哪个位置|哪一边|哪边)(呢|啊|)",
            "{X}的(位置|方位)(在哪里|在哪|是哪里|是什么|呢)",
            "<请>(告诉我|说说|看看|找一下|找找|指出){X}(在哪里|在哪儿|在哪|的位置|在什么位置)",
            "(哪里|哪儿|什么地方)(有|能看到){X}", "{X}(位于|处于|处在)(哪里|哪儿|什么位置|图片的哪里|画面的哪里|图的哪个位置)",
        ],
    },
    "position_more": {
        "en": ["and the {X}", "and where is the {X}", "(what|how) about the {X}", "and where's the {X}", "and what about the {X}"],
        "zh": ["(那|那么|还有|){X}呢", "(那|那么){X}在(哪里|哪儿|哪)(呢|)", "{X}又在哪(里|儿|)(呢|)"],
    },
    "position_it": {
        "en": ["(and |)where is it", "(and |)where is it<in>", "where's it", "and where", "(and |)what is its position", "(in |)which part of <the> <pic> is it( in|)"],
        "zh": ["(那|)它在(哪里|哪儿|哪|什么位置)(呢|)", "在(哪里|哪儿|哪|什么位置)(呢|)", "(那|)它的位置(呢|在哪|在哪里)", "(位于|)(哪里|哪儿)"],
    },
    "relation": {
        "en": [
            "(what is|what's) {side} the {X}<in>", "(what|which) (thing|object) is {side} the {X}<in>", "what (do|can) you see {side} the {X}", "what is there {side} the {X}",
            "<pls>(tell me|say) what is {side} the {X}",
        ],
        "zh": ["<里>{X}(的|){side}(是|有)(什么|啥|什么东西)(呢|)", "{X}(的|){side}(的东西|)是(什么|啥)(呢|)", "(什么|什么东西|啥)在{X}(的|){side}"],
    },
    "relation_yes": {
        "en": ["is the {X} {side} the {Y}<in>", "is the {X} (placed|located|somewhere|) {side} the {Y}", "(does|do) you see the {X} {side} the {Y}", "<pls>tell me if the {X} is {side} the {Y}"],
        "zh": ["{X}在{Y}(的|){side}(吗|么|吧)", "{X}(是不是|是否)在{Y}(的|){side}", "<里>{X}在{Y}的{side}(吗|么)", "{X}在不在{Y}(的|){side}"],
    },
    "yesno": {
        "en": [
            "is there (a|an|any) {aX}<in>", "is there {a} {X}<in>", "is there {a} {X}<in>", "(do|can) you (see|find|spot) {a} {X}<in>",
            "are there any {Xs}<in>", "are there {Xs}<in>", "(does|do) <the> <pic> (show|contain|have|include) {a} {X}", "is {a} {X} in <the> <pic>",
            "(is it true that there is|would you say there is) {a} {X}<in>", "any {Xs}<in>", "<pls>(tell me if|say whether) there is {a} {X}<in>",
        ],
        "zh": [
            "<里>有{X}(吗|么|没|没有|不)", "<里>有没有{X}(呢|啊|)", "<里>(是不是|是否)有{X}", "<问><里>有{X}(吗|么)", "<里>有一?{M}{X}(吗|么)",
            "(能|你能|可以|你)(看到|看见|找到){X}(吗|么)", "(能不能|可不可以)(看到|看见|找到){X}", "<里必>(存在|出现了|包含){X}(吗|么)", "有{X}(吗|没|么|没有)", "{X}有(吗|没有|没)",
        ],
    },
    "yesno_more": {
        "en": ["and {a} {X}", "is there {a} {X}( too| as well|)", "(what|how) about {a} {X}", "and is there {a} {X}", "and any {Xs}"],
        "zh": ["(那|那么|还有|){X}呢", "(那|也|那么)有{X}(吗|么)", "(那|)有没有{X}(呢|)", "{X}有(吗|没有)"],
    },
    "yesno_colour": {
        "en": ["is there (a|an|any) {cX}<in>", "is there {a} {C} {X}<in>", "is there {a} {C} {X}<in>", "(do|can) you see {a} {C} {X}<in>", "are there any {C} {Xs}<in>"],
        "zh": ["<里>有{C}(的|){X}(吗|么|没有)", "<里>有没有{C}(的|){X}", "(能|你能)看到{C}(的|){X}(吗|么)"],
    },
    "is_colour": {
        "en": ["is the {X} {C}<in>", "is the {X} {C}", "is the <colour> of the {X} {C}", "(the {X} is {C}, right|is it right that the {X} is {C})"],
        "zh": ["{X}是{C}(的|)(吗|么)", "(那个|这个|){X}(是不是|是否是|是否){C}(的|)", "{X}的颜色是{C}(吗|么)"],
    },
    "text_colour": {
        "en": ["(what|which) <colour> (is|are) the (text|writing|letters|words)<in>", "(what is|what's) the <colour> of the (text|writing|letters)<in>", "the text is (in |)(what|which) <colour>", "<pls>(tell me|name) the <colour> of the (text|writing)"],
        "zh": ["<里>(的|)(文字|字)是(什么|啥)(颜色|色)(的|)(呢|)", "(文字|字|字体)(的颜色是什么|是什么颜色|什么颜色|的颜色|是啥颜色)", "<请>(告诉我|说说)(文字|字)(的颜色|是什么颜色)"],
    },
    "text_where": {
        "en": ["where is the (text|writing|sign)<in>", "where's the (text|writing)<in>", "(in |on |)(what|which) (part|side|corner) is the (text|writing)( in| on|)", "(find|locate) the (text|writing)"],
        "zh": ["<里>(的|)(文字|字)在(哪里|哪儿|哪|什么位置|什么地方)(呢|)", "(文字|字)的位置(在哪|在哪里|是哪里|)", "(哪里|哪儿)有(文字|字)", "(文字|字)(位于|处于)(哪里|什么位置)"],
    },
    "yesno_text": {
        "en": ["is there (any |some |a |)(text|writing)<on>", "(do|can) you see any (text|writing|words|letters)<on>", "are there any (words|letters)<on>", "does <the> <pic> (have|contain|show) (any |)(text|writing|words)"],
        "zh": ["<里>有(文字|字|文本)(吗|么|没有|没)", "<里>有没有(文字|字|文本)", "(能|你能)看到(文字|字)(吗|么)"],
    },
    "read": {
        "en": [
            "(what does|what's|what is) (the |)(text|sign|writing|label)( say| read| in <the> <pic>| here|)",
            "what does the (text|sign|writing|label|<pic>|image) (say|read)", "what does (it|this) (say|read)",
            "<pls>read (the |this |out the |me the |)(text|sign|writing|words|letters|characters|label)<on>( aloud| to me| for me|)",
            "<pls>read (it|this|it out|this out|this for me|what it says|<the> <pic>)",
            "(what is|what's) (written|printed)<on>", "(what is|what's) (written|printed) (here|there|on it|on the sign)",
            "<pls>(extract|transcribe|copy|type|give me|output|return|write down|write out) (the |all |all the |)(text|writing|words)<on>( only| without explanation|, no explanation|, nothing else|)",
            "(what|which) (text|words|letters|characters|writing) (is there|are there|is shown|are shown|can you see|do you see|can you read)<on>",
            "(ocr|OCR)( this| please| the text| it|)", "(text|the text)( please| only|)", "<pls>(tell me|show me) (what it says|what is written|the text|what the text says|what is written here)",
            "what word is (this|that|it|written here)", "(what is|what's) the (text|word|number|code)<on>", "can you read (it|this|the text|that)",
        ],
        "zh": [
            "<请>(提取|识别|读出|读取|输出|抄写|写出|给出|念出|转写|读一下|念一下|识别一下|提取一下|认一下)(文字|文本|文字内容|图中文字|图片文字|图片中的文字|图里的文字|图片里的文字|图上的字|里面的字|这些字|上面的文字|其中的文字)(,(不要|不用|无需|不必)(解释|说明|多余的话|其他内容)|,只(要|输出|给出)(文字|内容|原文)|)",
            "<里>(写了|写的是|写着|印着|印了|印的是|写)(什么|啥|什么字|啥字|哪些字|些什么|哪几个字)(呢|啊|)",
            "<里必>(有|是)(什么|哪些|啥)(文字|字)(呢|)",
            "(这|这里|它|上面|牌子上|上边|这上面)(写的|写了|写着|写|印的|印着)(是|)(什么|啥|什么字|些什么)(呢|)",
            "<图>(上|里|中)?的?(文字|字|文本)(是什么|是啥|内容是什么|写的是什么|说什么|内容|念什么|怎么读)(呢|)",
            "(文字|文本)(内容|是什么|是啥|)", "<请>(把|将)(图片|图|图中|图里|图片里|照片)(上|里|中)?的(文字|字|文本)(提取|读|写|识别|念)(出来|一下)(,不要解释|,不用解释|)",
            "(读|念|认)(一下|出|)(文字|这些字|上面的字|图上的字|这个)", "(这是|这些是|是|这)什么字", "(OCR|ocr)(一下|)", "只(输出|提取|要)(文字|图中文字|图片中的文字)",
        ],
    },
    "who_photo": {
        "en": ["who (took|made|shot|drew|created|painted|is the author of) <the> <pic>", "who is the (photographer|author|artist)<on>", "<the> <pic> (was taken|is) by whom", "(by whom was|who was it that took) <the> <pic>( taken|)",
               "who made (this|it)", "whose <pic> is (this|it)"],
        "zh": ["(这张|这|那张|)(照片|图片|图|画|张图|张照片)是谁(拍|照|画|做|拍摄|制作)的", "(谁|是谁)(拍|照|画|拍摄|做)(了|的)(这张|这个|)(照片|图片|图)", "(摄影师|作者|拍摄者)是谁", "(拍摄者|作者)是(谁|哪位)", "<图>是谁(拍|画|照|做)的", "(这是|)谁(拍|画)的"],
    },
    "when_photo": {
        "en": ["when was <the> <pic> (taken|made|shot|drawn)", "(what|which) (year|day|date|time) (is it from|was it taken|is <the> <pic> from|was <the> <pic> taken)", "how old is <the> <pic>", "when (is|was) (this|it)( taken| made|)", "what time is it"],
        "zh": ["<图>是(什么时候|何时|哪年|哪一年|哪天|几点)(拍|拍摄|画|照|做)的", "(拍摄|拍照)(时间|日期)(是什么|是什么时候|是|呢|)", "(什么时候|哪年|哪一年|哪天)(拍|拍摄|画|照)的", "(现在|这是)(几点|什么时候)"],
    },
    "where_photo": {
        "en": ["where was <the> <pic> (taken|made|shot)", "(in |)(what|which) (city|country|place|town|street) (is this|is it|was it taken|was this taken)( in|)", "where (is this place|am i|are we)", "where did (you|they|he|she) take (this|it|<the> <pic>)"],
        "zh": ["<图>(是在|在)(哪里|哪儿|哪|什么地方|哪个城市|哪个国家)(拍|拍摄|照|画)的", "(拍摄|拍照)(地点|的地方)(是哪里|在哪里|在哪|呢|)", "(这是|这里是)(哪里|哪儿|什么地方|哪个城市|哪个国家)", "(在哪|哪里|哪儿)(拍|拍摄)的"],
    },
    "who_is": {
        "en": ["who is (this|that|he|she|it|in <the> <pic>|this person)", "who are (they|these people|the people<in>)", "what is (his|her|the person's|their) name", "who is the (person|man|woman)<in>"],
        "zh": ["(这|他|她|图里|照片里的人|图里的人|这个人|那个人|图中的人)是谁", "(他|她|这个人)叫什么(名字|)", "(这些|图里的)人是谁", "谁在(图|照片)里"],
    },
    "hello": {
        "en": ["(hello|hi|hey|good morning|good evening|good afternoon|hi there|hello there|hey there)"],
        "zh": ["(你好|您好|嗨|早上好|晚上好|下午好|哈喽|你好呀|你好啊|在吗)"],
    },
    "thanks": {
        "en": ["(thanks|thank you|thx|many thanks|thank you very much|thanks a lot|ok thanks|great, thanks|cheers)"],
        "zh": ["(谢谢|谢谢你|多谢|谢了|非常感谢|感谢|好的谢谢|好的,谢谢|谢谢啦)"],
    },
    "bye": {"en": ["(bye|goodbye|good bye|see you|bye bye|good night|see you later)"], "zh": ["(再见|拜拜|晚安|下次见|回头见)"]},
    "who_you": {
        "en": ["(who|what) are you", "what is your name", "what's your name", "(what|which) model are you", "are you (a robot|human|an ai|chatgpt|a bot|real)", "introduce yourself", "tell me about yourself"],
        "zh": ["你是(谁|什么|什么模型|哪个模型|机器人吗|人吗|真人吗|人工智能吗)", "你叫(什么|什么名字|啥)", "(介绍一下|说说)(你|)自己", "你(到底|)是(谁|什么)"],
    },
    "what_can": {
        "en": ["what can you do", "(how|what) can you help( me|)( with|)", "what do you know", "help( me|)", "what are you able to do", "what should i ask( you|)", "how (do|does) (you|this|it) work", "what questions can i ask"],
        "zh": ["你(能|会|可以)(做|干)(什么|啥|些什么)", "你会什么", "(你|)能帮我(做|干|)什么", "(帮助|怎么用|如何使用|有什么功能)", "我(可以|能)问(什么|你什么|哪些问题)", "你知道什么"],
    },
    "offtopic": {
        "en": [
            "(what is|what's) the capital of (france|germany|china|japan|italy|spain|england|the world|russia|india|brazil)", "write (a|me a|me an|an|a short) (poem|story|song|letter|essay|joke|email|novel)( about love| about the sea| for me|)",
            "(what is|what's) the (weather|news|time|date|meaning of life|price of gold|population of (china|india|france))( today| tomorrow| now|)", "tell me (a|another) (joke|story|secret|fact)",
            "(what is|what's|calculate|how much is) (1|2|3|12|15|100|7|25) (plus|times|minus|divided by|+|*|-|x) (1|2|3|12|15|100|8)",
            "who (is|was) the (president|king|queen|inventor|prime minister) of (france|america|the usa|england|china|the telephone)", "who (wrote|painted|invented|discovered) (hamlet|the mona lisa|america|the telephone|the light bulb)",
            "translate (hello|this|good morning|thank you) (into|to) (french|german|chinese|spanish|english|japanese)", "(how do i|how can i|how to) (cook|bake|learn|write|fix|build|make|lose) (rice|a cake|pasta|french|code|a car|a house|weight|money|python)",
            "write (some |a |)(code|python|program|function|script)( in python| for me|)", "(do you|what do you) (love|like|think|feel|eat|dream)( me| music| about love|)", "(what|which) (film|book|song|movie|country|team) (is|do you like) (the best|best|most)",
            "(explain|what is) (quantum physics|gravity|love|the internet|a black hole|machine learning|bitcoin|history|philosophy)", "(sing|play|dance|book a flight|order a pizza|call my mum|set an alarm|buy milk)", "how (are you|old are you|is it going|tall is mount everest|far is the moon|old is the earth)",
            "(recommend|suggest) (a|me a) (film|book|restaurant|hotel|song|movie|game)",
        ],
        "zh": [
            "(法国|德国|中国|日本|英国|美国|意大利|西班牙|俄罗斯|印度)的首都(是哪里|是哪|是什么|在哪里|是)", "(写|给我写|帮我写|请写)(一首|首|一篇|个|一个|一封)(诗|歌|故事|文章|信|作文|笑话|小说|邮件)",
            "(今天|明天|现在|北京|上海)(的|)(天气|新闻)(怎么样|如何|好吗|)", "(今天|明天)(是|)(星期几|几号|几月几号|周几)", "(讲|说|给我讲)(一个|个)(笑话|故事)", "(一|二|三|五|十|1|2|3|12|100)(加|减|乘|乘以|除以|\\+|-)(一|二|三|五|十|1|2|5|8)(等于几|等于多少|是多少|是几)",
            "(谁|是谁)(发明|写|发现)了(电话|电灯|红楼梦|美洲|飞机)", "(中国|美国|法国|英国)(的|)(总统|主席|国王|总理|人口)(是谁|是多少|有多少)", "(把|将)?(你好|这句话|谢谢)翻译成(英文|法语|日语|德语|英语)", "(怎么|如何|怎样)(做饭|学英语|减肥|赚钱|做蛋糕|写代码|学习|做菜)",
            "(写|帮我写)(一段|个|点)(代码|程序|Python代码|脚本)", "你(喜欢|爱)(什么|我|音乐|吃什么|谁)(吗|)", "(推荐|介绍)(一部|一本|一家|一首|几本)(电影|书|餐厅|歌|酒店)", "(什么是|解释一下)(爱情|人工智能|量子力学|黑洞|机器学习|哲学|相对论)", "(唱首歌|订机票|点外卖|打电话|放首歌|陪我聊天)", "(地球|月亮|世界|宇宙)(有多大|有多远|有多少人|多大了)", "你(几岁|多大)了?",
        ],
    },
}

ANSWERS = {
    "who_photo": {"en": "It can't be known from the picture who made it.", "zh": "从图片里看不出是谁拍的。"},
    "when_photo": {"en": "It can't be known from the picture when it was taken.", "zh": "从图片里看不出是什么时候拍的。"},
    "where_photo": {"en": "It can't be known from the picture where it was taken.", "zh": "从图片里看不出是在哪里拍的。"},
    "who_is": {"en": "It can't be known from the picture who that is.", "zh": "从图片里看不出是谁。"},
    "hello": {"en": "Hello! Ask me about a picture.", "zh": "你好!可以问我图片里有什么。"},
    "thanks": {"en": "You are welcome.", "zh": "不客气。"},
    "bye": {"en": "Goodbye!", "zh": "再见!"},
    "who_you": {"en": "I am a small demo model that looks at pictures.", "zh": "我是一个看图的小演示模型。"},
    "what_can": {
        "en": "I can name, count and locate simple things, tell colours and read short texts in a picture.",
        "zh": "我能说出图里的简单东西、数量、位置和颜色,还能读出短文字。",
    },
    "offtopic": {"en": "I am a small demo model: I can only answer questions about a picture.", "zh": "我是一个小演示模型,只能回答关于图片的问题。"},
    "no_picture": {"en": "There is no picture yet. Please add one.", "zh": "还没有图片,请先添加一张。"},
    "no_text": {"en": "There is no text.", "zh": "没有文字。"},
    "empty": {"en": "There is nothing in the picture.", "zh": "图里什么都没有。"},
    "none_there": {"en": "Nothing.", "zh": "什么都没有。"},
    "yes": {"en": "Yes.", "zh": "是的。"},
    "no": {"en": "No.", "zh": "不是。"},
    "has": {"en": "Yes.", "zh": "有。"},
    "has_not": {"en": "No.", "zh": "没有。"},
}
for _answer in ANSWERS.values():
    _answer["zh"] = _answer["zh"].replace(",", "\uff0c").replace("!", "\uff01")

# What is said of pictures that are no drawn scenes, whatever was asked. Apart from ANSWERS: the vocabulary is made of those,
# and it has to stay the stored checkpoint's. Their words are mostly tokens of it.
STRANGERS = {
    "photo": {
        "en": "This looks like a photograph. I am a small demo and know drawn things only: ask GLM-4V-9B.",
        "zh": "这看起来是照片。我是小演示模型\uff0c只认识画的图\uff0c可以问GLM-4V-9B。",
    },
    "stranger": {
        "en": "This is not one of my drawn pictures: I am a small demo. Ask GLM-4V-9B.",
        "zh": "这不是我认识的图。我是小演示模型\uff0c可以问GLM-4V-9B。",
    },
}

CELLS = {  # (column, row)
    "en": {(0, 0): "At the top left.", (1, 0): "At the top.", (2, 0): "At the top right.", (0, 1): "On the left.", (1, 1): "In the middle.",
           (2, 1): "On the right.", (0, 2): "At the bottom left.", (1, 2): "At the bottom.", (2, 2): "At the bottom right."},
    "zh": {(0, 0): "在左上角。", (1, 0): "在上方。", (2, 0): "在右上角。", (0, 1): "在左边。", (1, 1): "在中间。",
           (2, 1): "在右边。", (0, 2): "在左下角。", (1, 2): "在下方。", (2, 2): "在右下角。"},
}
SIDES = {
    "en": {"left": "(to the left of|left of|on the left of|on the left side of)", "right": "(to the right of|right of|on the right of|on the right side of)", "above": "(above|over|higher than)", "below": "(below|under|beneath|lower than)"},
    "zh": {"left": "(左边|左侧|左面)", "right": "(右边|右侧|右面)", "above": "(上面|上方|上边)", "below": "(下面|下方|下边)"},
}
COLOUR_WORDS = {"gray": ("gray", "grey"), "cyan": ("cyan", "light blue", "turquoise"), "pink": ("pink",), "purple": ("purple", "violet")}
COLOUR_WORDS_ZH = {"粉色": ("粉色", "粉红色"), "棕色": ("棕色", "褐色", "咖啡色"), "橙色": ("橙色", "橘色", "橘黄色"), "青色": ("青色", "蓝绿色")}


# ---------------------------------------------------------------- pattern expansion
def _parse(text: str, at: int = 0, depth: int = 0):
    """A pattern as nested lists: a sequence of strings and branch lists."""
    branches, sequence, plain = [], [], []

    def flush():
        if plain:
            sequence.append("".join(plain))
            plain.clear()

    while at < len(text):
        c = text[at]
        if c == "\\":
            plain.append(text[at + 1])
            at += 2
            continue
        if c == "(":
            flush()
            inner, at = _parse(text, at + 1, depth + 1)
            sequence.append(inner)
            continue
        if c == "|" and depth:
            flush()
            branches.append(tuple(sequence))
            sequence = []
        elif c == ")" and depth:
            flush()
            branches.append(tuple(sequence))
            return tuple(branches), at + 1
        elif c == "?" and (plain or sequence):  # the last character is optional
            if plain:
                last = plain.pop()
                flush()
                sequence.append(((last,), ()))
            else:
                sequence[-1] = sequence[-1] + ((),)
        else:
            plain.append(c)
        at += 1
    flush()
    return tuple(sequence), at


def _fill(pattern: str) -> str:
    for _ in range(3):
        for name, value in _FRAGMENTS.items():
            pattern = pattern.replace(name, value)
    return pattern.replace("<colour>", "(colour|color|colour|color)")


@lru_cache(None)
def _tree(pattern: str):
    return _parse(_fill(pattern))[0]


def _expand(tree, rng) -> str:
    out = []
    for part in tree:
        out.append(part if isinstance(part, str) else _expand(part[int(rng.random() * len(part))], rng))
    return "".join(out)


def expand(pattern: str, rng) -> str:
    return _expand(_tree(pattern), rng)


_SPACES = re.compile(r" {2,}")


def _roughen(text: str, lang: str, rng, mark: str) -> str:
    """As people type: case, final mark, half- or full-width marks, politeness."""
    text = _SPACES.sub(" ", text).strip()
    if lang == "en":
        if rng.random() < 0.06:
            text += ", please" if rng.random() < 0.5 else " please"
        if rng.random() < 0.72:
            text = text[0].upper() + text[1:]
        text = re.sub(r"\bi\b", "I" if rng.random() < 0.7 else "i", text)
        draw = rng.random()
        return text + (mark if draw < 0.72 else "" if draw < 0.95 else ".")
    if rng.random() < 0.7:
        text = text.replace(",", "\uff0c")
    draw = rng.random()
    if mark == "?":
        return text + ("?" if draw < 0.42 else "\uff1f" if draw < 0.68 else "" if draw < 0.95 else "。")
    return text + ("。" if draw < 0.3 else "" if draw < 0.9 else "\uff01")


_STATEMENT = ("describe ", "count", "list", "name ", "tell", "say", "read", "extract", "transcribe", "copy", "type", "give", "output", "return", "write",
              "please", "explain", "find ", "locate", "hello", "hi", "hey", "thank", "bye", "good", "see you", "introduce", "ok", "text", "the text", "caption", "translate",
              "请", "描述", "提取", "识别", "读", "念", "数", "告诉", "列出", "你好", "您好", "谢", "多谢", "再见", "拜拜", "只", "帮我", "麻烦", "写", "给我", "输出", "OCR", "ocr")


def ask(kind: str, lang: str, rng, **slots) -> str:
    """A question of the kind; every slot's value is put in as it is."""
    patterns = _PATTERNS[kind][lang]
    text = expand(patterns[int(rng.random() * len(patterns))], rng)
    for name, value in slots.items():
        text = text.replace("{" + name + "}", value)
    mark = "?"
    if text.startswith(_STATEMENT):
        mark = "." if rng.random() < 0.6 else "!" if rng.random() < 0.1 else ""
    return _roughen(text, lang, rng, mark)


# ---------------------------------------------------------------- names
def article(word: str) -> str:
    return "an" if word[0] in "aeio" else "a"


def question_names(key: str, lang: str, rng) -> dict[str, str]:
    """Slots X, Xs, a, aX, M for a kind, sometimes by a synonym."""
    kind = KINDS[key]
    if lang == "en":
        one, many = kind.en, kind.plural
        if kind.en_more and rng.random() < 0.3:
            one, many = kind.en_more[int(rng.random() * len(kind.en_more))]
        return {"X": one, "Xs": many, "a": article(one), "aX": one}
    name = kind.zh
    if kind.zh_more and rng.random() < 0.35:
        name = kind.zh_more[int(rng.random() * len(kind.zh_more))]
    return {"X": name, "M": "个" if rng.random() < 0.15 else kind.measure}


def class_names(key: str, lang: str, rng) -> dict[str, str]:
    """Slots Xs or X and M for a word of several kinds (animals, fruits, vehicles)."""
    _, en, zh, measure = CLASSES[key]
    return {"Xs": rng.choice(en)} if lang == "en" else {"X": rng.choice(zh), "M": "个" if rng.random() < 0.3 else measure}


def colour_word(colour: str, lang: str, rng) -> str:
    if lang == "en":
        words = COLOUR_WORDS.get(colour, (colour,))
    else:
        words = COLOUR_WORDS_ZH.get(COLOURS[colour].zh, (COLOURS[colour].zh,))
    return words[0] if rng.random() < 0.75 else words[int(rng.random() * len(words))]


def colour_answer(colour: str, lang: str) -> str:
    return colour.capitalize() + "." if lang == "en" else COLOURS[colour].zh + "。"


def _phrase(key: str, colour: str | None, count: int, lang: str) -> str:
    kind = KINDS[key]
    if lang == "en":
        noun = kind.en if count == 1 else kind.plural
        full = f"{colour} {noun}" if colour else noun
        return f"{article(full)} {full}" if count == 1 else f"{NUMBERS_EN[count]} {full}"
    number = "一" if count == 1 else NUMBERS_ZH[count]
    return f"{number}{kind.measure}" + (f"{COLOURS[colour].zh}的" if colour else "") + kind.zh


def describe(groups: list[tuple[str, str | None, int]], texts: list[str], lang: str) -> str:
    """The description of a scene: groups of (kind, colour, count) in the fixed order, the printed text last."""
    colours = list(COLOURS)
    groups = sorted(groups, key=lambda g: (ORDER[g[0]], colours.index(g[1]) if g[1] else 0))
    parts = [_phrase(*group, lang) for group in groups]
    if texts:
        text = " ".join(texts)
        parts.append(f"the text “{text}”" if lang == "en" else f"文字“{text}”")
    if not parts:
        return ANSWERS["empty"][lang]
    if lang == "zh":
        return "、".join(parts) + "。"
    joined = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
    return joined[0].upper() + joined[1:] + "."


def name_answer(key: str, colour: str | None, lang: str) -> str:
    return describe([(key, colour, 1)], [], lang)


# ---------------------------------------------------------------- for the vocabulary
def _first_words(tree) -> tuple[set[str], bool]:
    """The words that an expansion can begin with, and whether the tree may expand to nothing."""
    out: set[str] = set()
    for part in tree:
        if isinstance(part, str):
            word = re.match(r"[A-Za-z]*", part).group()
            return out | ({word} if word else set()), False
        inner = [_first_words(branch) for branch in part]
        out |= set().union(*(words for words, _ in inner))
        if not any(empty for _, empty in inner):
            return out, False
    return out, True


def opening_words() -> set[str]:
    """English words that a question or an answer begins with: they stand without a space before them."""
    patterns = [p for kind, by_lang in _PATTERNS.items() if kind != "offtopic" for p in by_lang["en"]]
    out = set().union(*(_first_words(_tree(p))[0] for p in patterns))
    out |= {text.split()[0].strip(".,!?") for answer in ANSWERS.values() for text in (answer["en"],)}
    return {word for word in out | set(NUMBERS_EN) | {"On", "In", "At", "A", "An"} | set(COLOURS)}


def all_strings() -> list[str]:
    """Every pattern, name and answer: what the tokenizer must spell cheaply."""
    out = [_fill(p) for kind, by_lang in _PATTERNS.items() if kind != "offtopic" for patterns in by_lang.values() for p in patterns]
    out += [text for answer in ANSWERS.values() for text in answer.values()]
    out += [text for cells in CELLS.values() for text in cells.values()] + [p for sides in SIDES.values() for p in sides.values()]
    for kind in KINDS.values():
        out += [kind.en, kind.plural, kind.zh, kind.measure, *kind.zh_more, *(w for pair in kind.en_more for w in pair)]
    for _, en, zh, measure in CLASSES.values():
        out += [*en, *zh, measure]
    for colour in COLOURS.values():
        out += [colour.key, colour.zh]
    out += [w for words in (*COLOUR_WORDS.values(), *COLOUR_WORDS_ZH.values()) for w in words]
    out += NUMBERS_EN + NUMBERS_ZH + ["a an and the text please", "文字“”、。\uff0c\uff1f\uff01"]
    return out
