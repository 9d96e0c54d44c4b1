//! Every sentence of the page, in English and Chinese.

/// A language of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lang {
    En,
    Zh,
}

impl Lang {
    /// The one of a locale's name, as in `zh-CN`.
    pub fn of(name: &str) -> Self {
        if name.to_ascii_lowercase().starts_with("zh") {
            Lang::Zh
        } else {
            Lang::En
        }
    }

    pub fn code(self) -> &'static str {
        match self {
            Lang::En => "en",
            Lang::Zh => "zh",
        }
    }

    pub fn other(self) -> Self {
        match self {
            Lang::En => Lang::Zh,
            Lang::Zh => Lang::En,
        }
    }
}

/// `template` with each `{}` replaced in turn.
pub fn fill(template: &str, values: &[&str]) -> String {
    let mut values = values.iter();
    let mut parts = template.split("{}");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(values.next().unwrap_or(&""));
        out.push_str(part);
    }
    out
}

/// What a failure of this code is in Chinese. The server tells all of them in English; what is no concern of a person's is told
/// so to everybody.
pub fn failure_in_chinese(code: &str) -> Option<&'static str> {
    Some(match code {
        "rate_limited" => "请求太频繁，请稍后再试。",
        "busy" => "服务器太忙，请稍后再试。",
        "loading" => "模型还在加载。",
        "draining" => "服务器正在重启。",
        "upload_too_large" => "文件太大，请换一张小一点的。",
        "upload_timeout" => "上传中断太久，请重新发送图片。",
        "too_many_uploads" => "同时上传的图片太多，请等前面的传完。",
        "hash_mismatch" | "upload_length" => "图片在路上损坏了，请重新发送。",
        "image_unsupported" => "这个文件不是支持的图片格式。",
        "image_broken" => "图片已损坏或不完整，请重新保存，或换一张。",
        "image_too_large" => "图片像素太多，请缩小后再试。",
        "image_gone" | "unknown_image" => "服务器上已没有这张图片，请再问一次，会重新发送。",
        "text_too_long" => "问题太长，请缩短。",
        "bad_sampling" => "设置中的取值超出范围，请在设置里修改。",
        "unknown_conversation" => "服务器已不记得这段对话，请再问一次。",
        "context_full" => "对话太长，模型放不下了，请开始新对话。",
        "out_of_memory" => "设备内存不足，请稍后再试。",
        "worker_failed" => "计算中途出错，请再试一次。",
        "internal" => "服务器内部错误，请再试一次。",
        _ => return None,
    })
}

macro_rules! texts {
    ($($name:ident = $en:literal, $zh:literal;)*) => {
        /// A sentence of the page.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum T { $($name,)* }

        impl T {
            pub fn in_language(self, lang: Lang) -> &'static str {
                TEXTS[self as usize][lang as usize]
            }
        }

        const TEXTS: &[[&str; 2]] = &[$([$en, $zh],)*];

        #[cfg(test)]
        const ALL: &[T] = &[$(T::$name,)*];
    };
}

texts! {
    Title = "Glimpse: ask a picture", "Glimpse：问一张图片";
    Tagline = "Ask a picture anything.", "给它一张图，问它一句话。";
    Lead = "It is being looked at while you type.", "你打字的时候，它已经在看了。";
    Drop = "Drop a picture here", "把图片拖到这里";
    DropNow = "Let go: I'm looking", "松手吧，我来看";
    OrPaste = "or paste one, or", "也可以粘贴，或者";
    Choose = "Choose a picture", "选择图片";
    Camera = "Take a photo", "拍一张";
    Replace = "Another picture", "换一张";
    TryOne = "No picture at hand? Try one of these.", "手边没有图？试试这些。";
    Placeholder = "Ask about the picture…", "问问这张图……";
    PlaceholderEmpty = "Add a picture, then ask…", "先放一张图，再问……";
    Question = "Your question", "你的问题";
    Send = "Send", "发送";
    Stop = "Stop", "停止";
    New = "New", "新对话";
    NewLong = "New conversation", "开始新对话";
    Skip = "Skip to the question", "跳到输入框";
    Received = "Received", "已收到";
    Uploading = "Uploading", "上传中";
    TimeLeft = "{} left", "还剩 {}";
    Looking = "Looking…", "正在看……";
    Ready = "Ready", "看好了";
    Failed = "Failed", "失败";
    NoPreview = "Your browser can't show this kind of file; the server may still read it.", "浏览器显示不了这种文件，服务器也许能读。";
    LookCloser = "Look closer", "放大看";
    LookCloserLong = "Draw a box around what you want to be looked at closely.", "框出想仔细看的地方。";
    LookCloserSeen = "Look closer at this part", "仔细看这一部分";
    CantLookCloser = "This browser can't cut that part out of the picture.", "浏览器无法从图中裁出这一部分。";
    PartOnly = "A part of the picture: only this is looked at.", "图片的一部分：只看这里。";
    ShowWhole = "Back to the whole picture", "回到整张图";
    Enlarge = "Look at the picture on the whole screen", "全屏看图";
    ZoomIn = "Closer", "放大";
    ZoomOut = "Further away", "缩小";
    Transparent = "The model sees white where the picture is transparent.", "图片透明的地方，模型看到的是白色。";
    Pixels = "{} × {} pixels", "{} × {} 像素";
    Unsent = "Waiting for the connection…", "等待连接……";
    WaitingModel = "Waiting for the model…", "等待模型……";
    Sent = "Sent", "已发送";
    WaitingPicture = "Waiting for the picture…", "等图片……";
    QueuedNext = "You're next", "下一个就是你";
    QueuedAt = "{} ahead of you", "前面还有 {} 个";
    Thinking = "Thinking…", "思考中……";
    Stopped = "Stopped", "已停止";
    Length = "Cut off at the length limit.", "到达长度上限，被截断了。";
    Continue = "Continue", "继续";
    ContinueText = "Please continue.", "请继续。";
    TimedOut = "It took too long, so the server stopped it.", "时间太长，服务器停下了。";
    Again = "Ask again", "重新问";
    Edit = "Edit", "编辑";
    Cancel = "Cancel", "取消";
    Copy = "Copy", "复制";
    Copied = "Copied", "已复制";
    NotCopied = "The browser did not let me copy. Select the text and copy it by hand.", "浏览器不允许复制，请选中文字手动复制。";
    TryAgain = "Try again", "再试一次";
    NextTry = "Next try in {} s.", "{} 秒后重试。";
    RetryIn = "Try again in {} s.", "{} 秒后可再试。";
    FirstWord = "First word after {}.", "首字用时 {}。";
    MostOfIt = "First word after {}; most of it: {}, {}.", "首字用时 {}，主要花在{}：{}。";
    CauseNetwork = "your network", "网络";
    CausePicture = "waiting for the picture", "等图片";
    CauseQueue = "others before you", "排队";
    CauseModel = "the model", "模型";
    LegendPage = "this page and the network", "页面与网络";
    LegendServer = "the server", "服务器";
    Total = "All of it after {}.", "全部用时 {}。";
    Connecting = "Connecting…", "连接中……";
    Lost = "The server can't be reached. Coming back by itself…", "连不上服务器，正在自动恢复……";
    Reconnecting = "Reconnecting…", "重新连接中……";
    KeyNeeded = "Key needed", "需要密钥";
    Full = "Busy", "繁忙";
    Barred = "Can't connect", "连不上";
    NoSocket = "The server is there, but its WebSocket can't be reached: a proxy before it has to pass WebSockets on (docs/operations.md shows how).", "服务器在，但连不上它的 WebSocket：前面的代理需要转发 WebSocket（做法见 docs/operations.md）。";
    Elsewhere = "Open in another tab", "在另一个标签页中";
    Updated = "Updated", "已更新";
    Back = "Back again. Nothing was lost.", "恢复了，一个字都没丢。";
    NeedsKey = "This server asks for a key.", "这个服务器需要密钥。";
    WrongKey = "That key was not accepted.", "密钥不对。";
    Enter = "Enter", "进入";
    TakenOver = "This session goes on in another tab.", "会话已在另一个标签页里继续。";
    UseHere = "Use it here", "在这里继续";
    Outdated = "The server has been updated. Reload the page to go on.", "服务器已更新，请刷新页面。";
    NewVersion = "A new version of this page is here.", "本页面有新版本。";
    Reload = "Reload", "刷新";
    Loading = "The model is loading", "模型正在加载";
    Warming = "The model is warming up", "模型正在热身";
    Fetching = "The model is being downloaded", "正在下载模型";
    FetchFailed = "The model could not be downloaded.", "模型下载失败。";
    FetchFailedHint = "The server's log says why. What has come is kept, and the next start goes on with it.", "原因见服务器日志。已下载的部分会保留，下次启动时接着下载。";
    Fetched = "{} of {}", "{}，共 {}";
    LoadingHint = "You can add a picture and ask already; it starts as soon as the model is there.", "可以先放图、先提问，模型一好就开始。";
    Leaving = "The server is restarting.", "服务器正在重启。";
    Draining = "This page comes back by itself.", "页面会自动恢复。";
    ServerFailed = "The model could not be loaded. The server's log says why.", "模型加载失败，原因见服务器日志。";
    DemoTitle = "Demo checkpoint", "演示模型";
    DemoShort = "Demo", "演示";
    DemoKnows = "It knows generated scenes: shapes, everyday things as emoji, colours, counts, positions, and short printed text in English and Chinese. Photographs and screenshots it does not know, and says so.", "它只认识生成的画面：几何图形、表情符号里的日常物品、颜色、数量、位置，以及简短的中英文印刷文字。照片和截图它不认识，会直说。";
    DemoServe = "To serve the real GLM-4V-9B, run one of these where its weights are:", "要用真正的 GLM-4V-9B，请在有权重的机器上运行其中一条：";
    Help = "Keyboard shortcuts", "快捷键";
    KeySend = "Send the question", "发送";
    KeyLine = "A new line in the question", "换行";
    KeyStop = "Stop the answer", "停止回答";
    KeyPaste = "Paste a picture", "粘贴图片";
    KeyNew = "New conversation", "新对话";
    KeyHistory = "Conversations", "对话记录";
    KeyZoom = "In the picture: closer, further away, all of it, a pixel for a pixel", "看图时：放大、缩小、整张、原始大小";
    KeyMove = "In the picture: to the side", "看图时：移动";
    KeyCloser = "In the picture: look closer at the box, or at what is seen", "看图时：仔细看框内或当前部分";
    KeyAny = "Anything else that is typed goes to the question.", "其他按键直接输入到问题框。";
    Latest = "To the latest", "跳到最新";
    PictureFirst = "Add a picture first: drop, paste or choose one.", "先放一张图：拖入、粘贴或选择。";
    OtherPictureFirst = "This picture can't be used. Choose another one.", "这张图用不了，请换一张。";
    OnePicture = "One picture at a time: I took the first.", "一次一张：我拿了第一张。";
    NotAPicture = "That is not a picture.", "这不是图片。";
    EmptyFile = "That file is empty.", "这个文件是空的。";
    Folder = "That is a folder: choose a picture in it.", "这是文件夹：请选里面的一张图片。";
    SaveFirst = "That picture lies on another page: save it, then drop the file here.", "那张图在别的网页上：先保存下来，再把文件拖到这里。";
    NotTaken = "{} can't be used, so the picture before stays. {}", "{} 用不了，所以保留原来的图片。{}";
    Decline = "Keep the picture before", "保留原来的图片";
    AskedOfIt = "Asked as soon as it is there: {}", "图片一到就问：{}";
    Undo = "Undo", "撤销";
    LeftForNew = "The conversation is put away.", "对话已收起。";
    LeftForPicture = "A new picture begins a new conversation.", "新图片开始了新对话。";
    LeftForAnother = "Another conversation is open now.", "已打开另一段对话。";
    BroughtBack = "The conversation is back.", "对话回来了。";
    AskedAgain = "Asked again. The answer before is kept.", "已重新提问，原来的回答还在。";
    Edited = "Question changed. The one before is kept.", "问题已修改，原来的还在。";
    Deleted = "Conversation deleted.", "对话已删除。";
    Version = "{} of {}", "第 {} 个，共 {} 个";
    VersionBefore = "Version before", "上一个版本";
    VersionAfter = "Version after", "下一个版本";
    NoWorker = "This browser starts no worker, which Glimpse needs to read pictures.", "浏览器无法启动 Worker，读不了图片。";
    Unreadable = "The file can't be read any more. Choose it again.", "文件读不到了，请重新选择。";
    Language = "中文", "English";
    Latency = "Where the time went", "时间都去哪了";
    PicturePart = "Picture, from the drop", "图片：从放下算起";
    AnswerPart = "Answer, from Send", "回答：从发送算起";
    SpanShown = "received shown", "显示已收到";
    SpanRead = "read", "读取";
    SpanScale = "scale", "缩放";
    SpanUpload = "upload", "上传";
    SpanDecode = "decode", "解码";
    SpanPreprocess = "preprocess", "预处理";
    SpanWait = "wait", "等待";
    SpanLook = "look", "看图";
    SpanPrefill = "prefill", "预填";
    SpanSend = "send", "送达";
    SpanPicture = "wait for picture", "等图片";
    SpanQueue = "queue", "排队";
    SpanFirst = "first word", "首字";
    SpanReturn = "back and drawn", "返回并画出";
    SpanWrite = "write", "书写";
    ClockNote = "Server times are placed by clocks joined to ± {}.", "服务器时间按对时放置，误差 ± {}。";
    ClockUnknown = "The clocks are not joined yet: server times are placed by their arrival.", "尚未对时：服务器时间按到达时刻放置。";
    Session = "First word this session: median {}, p95 {} ({} answers)", "本次会话首字：中位 {}，p95 {}（{} 个回答）";
    Tokens = "{} tokens in ({} from the cache), {} out.", "输入 {} 词元（{} 来自缓存），输出 {}。";
    Rate = "{} per second.", "每秒 {}。";
    CopyJson = "Copy as JSON", "复制为 JSON";
    Conversation = "Conversation", "对话";
    SuggestWhat = "What is in the picture?", "图里有啥？";
    SuggestRead = "Read the text in it, nothing else.", "提取文字，不要解释";
    SuggestWhere = "What is on the left?", "左边是什么？";
    SuggestDescribe = "Describe the picture.", "描述一下这张图。";
    SuggestUnusual = "What is unusual in it?", "有什么不寻常的地方？";
    SuggestScreen = "What does this screen show?", "这个界面显示了什么？";
    SuggestPoints = "Sum it up in three points.", "用三点概括内容。";
    SuggestTable = "Put what it says into a table.", "把内容整理成表格。";
    AskFirst = "Ask it anything, or begin with one of these", "直接提问，或从这里开始";
    ThePicture = "Picture", "图片";
    Settings = "Settings", "设置";
    History = "Conversations", "对话记录";
    Close = "Close", "关闭";
    Delete = "Delete", "删除";
    Temperature = "Temperature", "温度";
    TemperatureHint = "0 always takes the likeliest word; higher is freer.", "0 总取最可能的词；越高越随意。";
    TopP = "Top-p", "Top-p";
    TopPHint = "Chooses among the likeliest words that make up this share; 1 is all.", "只在累计概率达到此值的词中选；1 为全部。";
    LanguageTitle = "Language", "语言";
    English = "English", "English";
    Chinese = "中文", "中文";
    ThemeTitle = "Appearance", "外观";
    ThemeSystem = "As the system has it", "跟随系统";
    ThemeLight = "Light", "浅色";
    ThemeDark = "Dark", "深色";
    Reset = "Reset to what it was", "恢复默认设置";
    ByModel = "model's own", "模型默认";
    MaxTokens = "Longest answer, in tokens", "回答的最大长度（词元）";
    System = "Instructions for every conversation", "每段对话的系统提示词";
    SystemHint = "The model reads them before the picture: how to answer, in which language, at what length.", "模型在看图之前先读它：怎样回答、用什么语言、多长。";
    ScalingTitle = "Make pictures smaller before sending", "发送前缩小图片";
    ScalingAuto = "Only where that is quicker", "只在更快时";
    ScalingAlways = "Always", "总是";
    ScalingOriginal = "Never: send the original", "从不：发送原图";
    Keep = "Keep conversations and their pictures in this browser", "在这个浏览器里保留对话和图片";
    ClearAll = "Clear all conversations", "清除全部对话";
    ClearSure = "Delete every conversation and picture that this browser keeps?", "删除这个浏览器保留的全部对话和图片？";
    ClearYes = "Delete all", "全部删除";
    ClearNo = "Keep them", "先不删";
    Cleared = "Everything kept here is gone.", "已全部清除。";
    NotKeptAnyMore = "That conversation is not kept any more.", "这段对话已经不在了。";
    KeepsNothing = "This browser keeps nothing for this page: conversations end with this tab.", "这个浏览器不为本页保存任何内容：关掉标签页，对话就没了。";
    Scarce = "This browser has little room left for conversations: delete some, or new ones may not be kept.", "浏览器留给对话的空间快满了：请删掉一些，否则新的可能存不下。";
    Room = "{} of {} that this browser allows", "已用 {}，浏览器允许 {}";
    RoomUnknown = "Over plain http the browser may clear these when it runs short of room. Over https the page can ask it not to, can be installed, and opens while the server is away.", "在普通 http 下，浏览器空间不足时可能清掉这些内容。用 https 就能请它保留，还能安装本页面，服务器不在时也能打开。";
    MayGo = "The browser may clear these when it runs short of room.", "浏览器空间不足时可能清掉这些内容。";
    KeepForGood = "Ask it to keep them", "请它保留";
    NotForGood = "The browser does not promise to keep them: export what matters.", "浏览器没有答应保留：重要的请导出。";
    TabElsewhere = "This conversation is open in another tab, too.", "这段对话在另一个标签页里也开着。";
    TabChanged = "Another tab has gone on with this conversation. What you ask here is not kept with it.", "另一个标签页继续了这段对话，在这里问的不会存进去。";
    TabGone = "Another tab has deleted this conversation. What you ask here is not kept.", "另一个标签页删除了这段对话，在这里问的不会保存。";
    StoreFull = "This browser has no room left, so this conversation is not kept. Delete some to make room.", "浏览器存储空间已满，这段对话没有保存。请删掉一些。";
    MakeCopy = "Go on with a copy", "用副本继续";
    ShowKept = "Show the other", "看另一边的";
    Search = "Search conversations", "搜索对话";
    NothingFound = "Nothing of what is kept has these words.", "没有找到。";
    Today = "Today", "今天";
    Yesterday = "Yesterday", "昨天";
    More = "Name and files", "名称与导出";
    Name = "Name", "名称";
    Save = "Save", "保存";
    ExportMarkdown = "Markdown and picture", "Markdown 与图片";
    ExportJson = "JSON", "JSON";
    Import = "Import a JSON file", "导入 JSON 文件";
    NotAConversation = "That file is no conversation of Glimpse.", "这个文件不是 Glimpse 的对话。";
    NotExported = "The file could not be made: the conversation is not kept any more, or there is no room for it.", "无法导出：对话已不在，或者空间不足。";
    NothingKept = "Nothing kept yet: conversations appear here after their first answer.", "还没有内容：第一个回答之后，对话会出现在这里。";
}

#[cfg(test)]
mod tests {
    use super::*;

    /// But for those that only a client's own mistake brings, which people are told in the server's words.
    #[test]
    fn what_a_person_can_meet_has_a_sentence_in_both_languages() {
        use wire::ErrorCode::*;
        let mistakes = [
            BadJson,
            BadMessage,
            UnknownType,
            BadFrame,
            HelloLate,
            UploadNumberUsed,
            UploadCancelled,
            UnknownUpload,
            EmptyText,
            BadFormat,
            DuplicateRequest,
            ConversationHasImage,
            // A field for the key stands there instead.
            Unauthorized,
        ];
        for code in wire::ErrorCode::ALL {
            let told = failure_in_chinese(code.as_str()).is_some();
            assert_ne!(told, mistakes.contains(code), "{code}");
        }
    }

    #[test]
    fn both_languages_have_the_same_blanks() {
        for text in ALL {
            let blanks = |lang| text.in_language(lang).matches("{}").count();
            assert_eq!(blanks(Lang::En), blanks(Lang::Zh), "{text:?}");
        }
    }

    #[test]
    fn the_face_before_the_module_runs_says_the_same() {
        let page = include_str!("../index.html");
        use T::{Camera, Choose, Drop, Lead, OrPaste, PlaceholderEmpty, Question, Tagline, TryOne};
        let texts = [
            Camera,
            Choose,
            Drop,
            Lead,
            OrPaste,
            PlaceholderEmpty,
            Question,
            Tagline,
            TryOne,
        ];
        for text in texts {
            for lang in [Lang::En, Lang::Zh] {
                assert!(page.contains(text.in_language(lang)), "{text:?}");
            }
        }
    }

    #[test]
    fn blanks_are_filled_in_order() {
        assert_eq!(fill("{} × {}", &["3", "4"]), "3 × 4");
        assert_eq!(fill("none", &["3"]), "none");
    }
}
