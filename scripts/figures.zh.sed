# The figures of README.md in the words of README.zh.md, for `sed -E`: scripts/figures.sh writes by it, and
# tests/docs/test_translations.py compares by it.

# The table.
s/^\| Stage \| median \|(.*)\| max \|/| 阶段 | 中位数 |\1| 最大值 |/
s/^\| Connect \|/| 建立连接 |/
s/^\| Upload and acknowledgement \|/| 上传并确认 |/
s/^\| Decode and preprocess \|/| 解码与预处理 |/
s/^\| Vision tower \|/| 视觉编码器 |/
s/^\| Prefill of the picture \|/| 图片的预填充 |/
s/^\| Drop to ready for questions \|/| 从拖入到可以提问 |/
s/^\| First token \|/| 首个 token |/
s/^\| Each further token \|/| 之后每个 token |/
s/^\| Whole answer \|/| 整个回答 |/
s/^\| Drop to last word \|/| 从拖入到最后一个字 |/
s/^\| First token of the next question \|/| 下一个问题的首个 token |/
s/^\| First token of the next question, over HTTP \|/| 下一个问题的首个 token，经 HTTP |/
s/^\| Two questions at once \|/| 同时提两个问题 |/

# Where they come from: two lines, which become one, since a line break would be a space between two characters.
/^Printed by /{
    N
    s/^Printed by (`[^`]*`), ([^,]*), on (.*); load average ([0-9.]+) before, ([0-9.]+) after\.\nAll times in milliseconds, on (.*); the picture is (.*)\.$/由 \1 于 \2 输出，机器：\3；负载均值：测前 \4，测后 \5。时间单位均为毫秒；模型：\6；图片：\7。/
    s/, ([0-9]+) cores, ([0-9.]+ GB), /，\1 核，\2，/
    s/the demo checkpoint on ([^,]*), ([^,]*), quantization ([^,]*), /演示模型，\1，\2，量化 \3，/
    s/a generated ([^ ]*) JPEG of ([0-9.]+ [A-Za-z]+)/程序生成的 \1 JPEG，\2/
}
