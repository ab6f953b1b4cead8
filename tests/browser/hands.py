"""Two ways to work a page: with the mouse, and with the keyboard alone, which never clicks."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from playwright.sync_api import Locator, Page, expect

from tests.browser.looking import outlined

HELD = 250  # milliseconds: as a person presses, who loses a link that is swapped away meanwhile
FAR = 150  # presses of a key after which a thing counts as out of reach


@dataclass(frozen=True)
class Hands(ABC):
    page: Page

    @abstractmethod
    def press(self, target: Locator, key: str = "") -> None:
        """A link or a button. ``key``: the letter that the page has for it."""

    @abstractmethod
    def enter(self, field: Locator, key: str = "") -> None:
        """Go into a field of text."""

    @abstractmethod
    def choose(self, radio: Locator) -> None:
        """One of several."""

    @abstractmethod
    def tick(self, row: Locator) -> None:
        """Select a row of a table of features."""

    @abstractmethod
    def open(self, row: Locator) -> None:
        """Go to the feature of a row."""

    @abstractmethod
    def send(self, button: Locator) -> None:
        """What was typed, with the button beside it or the enter key."""

    def write(self, field: Locator, text: str, key: str = "") -> None:
        """``text`` in place of what is in the field."""
        self.enter(field, key)
        self.page.keyboard.press("Control+A")
        self.page.keyboard.type(text)


class Mouse(Hands):
    def press(self, target: Locator, key: str = "") -> None:
        target.click()

    def enter(self, field: Locator, key: str = "") -> None:
        field.click()

    def choose(self, radio: Locator) -> None:
        radio.locator("xpath=ancestor::label").click()
        expect(radio).to_be_checked()

    def tick(self, row: Locator) -> None:
        row.get_by_role("checkbox").click()

    def open(self, row: Locator) -> None:
        row.get_by_role("rowheader").get_by_role("link").first.click(delay=HELD)

    def send(self, button: Locator) -> None:
        button.click()


class Keyboard(Hands):
    def press(self, target: Locator, key: str = "") -> None:
        if key:
            self._leave()
            expect(target).to_be_visible()
            self.page.keyboard.press(key)
        else:
            self._reach(target)
            self.page.keyboard.press("Enter")

    def enter(self, field: Locator, key: str = "") -> None:
        if key:
            self._leave()
            self.page.keyboard.press(key)
            expect(field).to_be_focused()
        else:
            self._reach(field)

    def choose(self, radio: Locator) -> None:
        """Tab comes to the one of the group that is chosen; the arrows go on from there."""
        name = radio.get_attribute("name")
        self._until("Tab", lambda: self.page.evaluate("document.activeElement.name") == name)
        self._until("ArrowRight", lambda: _has_focus(radio))
        expect(radio).to_be_checked()

    def tick(self, row: Locator) -> None:
        self._go_to(row)
        self.page.keyboard.press("x")

    def open(self, row: Locator) -> None:
        self._go_to(row)
        self.page.keyboard.press("Enter")

    def send(self, button: Locator) -> None:
        self.page.keyboard.press("Enter")

    def _leave(self) -> None:
        """Out of a field, in which a letter would be typed."""
        typing = "document.activeElement.matches('input:not([type=checkbox], [type=radio]), textarea, select')"
        if self.page.evaluate(typing):
            self.page.keyboard.press("Escape")

    def _reach(self, target: Locator) -> None:
        expect(target).to_be_visible()
        self._until("Tab", lambda: _has_focus(target))
        assert outlined(self.page), f"{target} does not show that it has the focus"

    def _go_to(self, row: Locator) -> None:
        expect(row).to_be_visible()
        self._leave()
        self._until("j", lambda: row.get_attribute("aria-current") == "true")

    def _until(self, key: str, done: Callable[[], bool]) -> None:
        for _ in range(FAR):
            if done():
                return
            self.page.keyboard.press(key)
        raise AssertionError(f"{FAR} presses of {key} did not lead there: {self.page.url}")


def _has_focus(target: Locator) -> bool:
    return bool(target.evaluate("element => element === document.activeElement"))
