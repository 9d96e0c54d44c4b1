"""A mouse on a screen that nobody sees: what it drags goes the way of a person's drags, out of one window and into another."""

import subprocess
import time

from browsers import found

HEAR = "window.at = null; addEventListener('mousemove', (event) => { window.at = [event.clientX, event.clientY]; }, true);"
MIDDLE = """
    document.querySelector(arguments[0]).scrollIntoView({block: 'nearest'});
    const {left, top, width, height} = document.querySelector(arguments[0]).getBoundingClientRect();
    return [left + width / 2, top + height / 2];
"""
# Windows tell each other of a drag by messages: it is let go once the page has heard that it stays.
HEAR_DRAG = "window.over = 0; addEventListener('dragover', () => { window.over += 1; });"
HEAR_END = "window.ended = ''; for (const end of ['mouseup', 'dragend']) addEventListener(end, () => { window.ended = end; }, true);"
# Pieces of a way: a drag begins only after some of them, and what it goes over hears of it.
STEPS = 12


class Mouse:
    def __init__(self, screen):
        self.screen = screen
        self.at = (0, 0)

    def does(self, *what):
        subprocess.run([found("xdotool"), *map(str, what)], env=self.screen.environment, check=True)

    def to(self, x, y):
        self.does("mousemove", round(x), round(y))
        self.at = (x, y)

    def place(self, page, where):
        """Where the middle of this element is on the screen: windows say little about where they are, but they hear the mouse."""
        page.script(HEAR)
        left, top, width, height = page.script("return [screenX, screenY, outerWidth, outerHeight]")
        guess = left + width / 2, top + height * 2 / 3

        def heard():
            # From beside it, since one that stands still is not heard.
            self.to(guess[0] - 3, guess[1] - 3)
            self.to(*guess)
            return page.script("return window.at")

        at = page.until(heard)
        x, y = page.script(MIDDLE, where)
        return guess[0] + x - at[0], guess[1] + y - at[1]

    def pulls(self, start, end):
        """Presses at one place on the screen and goes to another."""
        self.to(*start)
        self.does("mousedown", 1)
        for step in range(1, STEPS + 1):
            self.to(*(a + (b - a) * step / STEPS for a, b in zip(start, end)))
            time.sleep(0.05)

    def in_vain(self, page, start, end):
        """Tries to drag what can't be dragged; whether it could."""
        page.script(HEAR_END)
        self.pulls(start, end)
        self.does("mouseup", 1)
        return page.until(lambda: page.script("return window.ended")) == "dragend"

    def drags(self, page, start, end):
        """From one place on the screen to another, which is the page's."""
        page.script(HEAR_DRAG)
        self.pulls(start, end)
        heard = page.script("return window.over")

        def stays():
            # Some browsers tell of a drag only as it moves.
            self.to(end[0] + 2, end[1] + 2)
            self.to(*end)
            return page.script("return window.over") > heard + 2

        page.until(stays)
        self.does("mouseup", 1)
