"""What people do with the page, by WebDriver. It waits for what must come, never for time."""

import time

from selenium.common.exceptions import ElementNotInteractableException, NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from browsers import HANGS

# A moment later it is there again, or in its place.
GONE = (NoSuchElementException, StaleElementReferenceException, ElementNotInteractableException)

# Dispatches the events of a drag or a paste that carries texts (by kind) and files ([name, kind, bytes]) at an element; which of
# them were the page's. No driver can drag from outside of the browser.
CARRY = """
    const [kinds, where, texts, files] = arguments;
    const target = document.querySelector(where);
    const carried = new DataTransfer();
    for (const [kind, text] of Object.entries(texts)) carried.setData(kind, text);
    for (const [name, kind, bytes] of files) carried.items.add(new File([new Uint8Array(bytes)], name, {type: kind}));
    return kinds.map((kind) => {
        const options = {bubbles: true, cancelable: true};
        const event = kind === 'paste' ? new ClipboardEvent(kind, {...options, clipboardData: carried})
            : new DragEvent(kind, {...options, dataTransfer: carried});
        // Not everywhere is it taken from the options.
        if (kind === 'paste' && !event.clipboardData?.types.length)
            Object.defineProperty(event, 'clipboardData', {value: carried});
        target.dispatchEvent(event);
        return event.defaultPrevented;
    });
"""


class Page:
    def __init__(self, driver, line):
        self.driver, self.line = driver, line
        self.driver.get(line.url)
        self.good()

    def good(self):
        self.find("server-state", "[data-light=good]")

    def script(self, text, *arguments):
        return self.driver.execute_script(text, *arguments)

    def until(self, true, seconds=HANGS):
        """Waits for `true()`; what it said. An element that is replaced meanwhile is looked for again."""
        end = time.monotonic() + seconds
        while True:
            try:
                if value := true():
                    return value
            except GONE:
                pass
            assert time.monotonic() < end, f"still not true after {seconds} s; the page says:\n{self.text()}"
            time.sleep(0.02)

    def text(self):
        return self.script("return document.body.innerText")

    def says(self, *words):
        """Waits until the page says one of these."""
        self.until(lambda: any(one in self.text() for one in words))

    def all(self, name, more=""):
        return self.driver.find_elements(By.CSS_SELECTOR, f"[data-testid={name}]{more}")

    def find(self, name, more=""):
        """Waits for it; the last one."""
        return self.until(lambda: self.all(name, more))[-1]

    def click(self, name, more=""):
        """Clicks the last one, as a person does: once it can be seen and nothing lies over it."""
        self.press(f"[data-testid={name}]{more}")

    def press(self, which, at=-1):
        """The same, of what a selector finds."""
        self.until(lambda: self.pressed(which, at))

    def pressed(self, which, at):
        elements = self.driver.find_elements(By.CSS_SELECTOR, which)
        element = elements[at:][:1]
        if not element or not element[0].is_displayed() or not element[0].is_enabled():
            return False
        self.script("arguments[0].scrollIntoView({block: 'nearest'})", element[0])
        over = """
            const {left, top, width, height} = arguments[0].getBoundingClientRect();
            const seen = document.elementFromPoint(left + width / 2, top + height / 2);
            return !!seen && (arguments[0].contains(seen) || seen.contains(arguments[0]));
        """
        if not self.script(over, element[0]):
            return False
        element[0].click()
        return True

    def keys(self, *keys):
        """One chord: all but the last are held."""
        chain = ActionChains(self.driver)
        for key in keys[:-1]:
            chain.key_down(key)
        chain.send_keys(keys[-1])
        for key in keys[:-1]:
            chain.key_up(key)
        chain.perform()

    def give(self, path):
        self.find("file-input").send_keys(str(path))

    def name(self):
        return self.find("picture-card").get_attribute("innerText")

    def ready(self, name):
        """Waits until the server is ready to be asked about the picture of this name."""
        self.until(lambda: self.all("picture-card", "[data-phase=ready]") and name in self.name())

    def carry(self, kinds, where="body", texts=(), files=()):
        return self.script(CARRY, list(kinds), where, dict(texts), [[name, kind, list(data)] for name, kind, data in files])

    def draft(self):
        return self.find("question").get_property("value")

    def type(self, text):
        self.find("question").send_keys(text)
        self.until(lambda: self.draft().endswith(text))

    def send(self, text):
        """Types a question and sends it, with Enter where there is a keyboard."""
        self.type(text)
        if self.script("return matchMedia('(pointer: fine)').matches"):
            self.find("question").send_keys(Keys.ENTER)
        else:
            self.click("send")

    def ask(self, text):
        """Asks, and waits for the whole answer; it."""
        turns = len(self.all("turn"))
        self.send(text)
        self.until(lambda: len(self.all("turn", "[data-phase=done]")) == turns + 1)
        return self.until(lambda: self.all("answer")[-1].text)

    def undo(self):
        self.click("undo", " button")

    def kept(self, turns):
        """Waits until the browser keeps a conversation of so many turns, answered or not."""
        count = """
            const done = arguments[0], open = indexedDB.open('glimpse', 1);
            open.onerror = () => done([]);
            open.onsuccess = () => {
                const all = open.result.transaction('conversations').objectStore('conversations').getAll();
                all.onsuccess = () => {
                    open.result.close();
                    done(all.result.map((c) => JSON.parse(c.turns).length + JSON.parse(c.asking).length));
                };
            };
        """
        self.until(lambda: turns in self.driver.execute_async_script(count))
