"""A page as a reader has it: what it says, and where it leads."""

from __future__ import annotations

from html.parser import HTMLParser


class Page(HTMLParser):
    """Texts and tags of a page; fails where they are not closed in order."""

    VOID = ("meta", "br")

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.texts.append(data.strip())

    @property
    def text(self):
        return " ".join(filter(None, self.texts))

    def links(self):
        return [attributes["href"] for tag, attributes in self.tags if tag == "a"]
