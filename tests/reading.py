"""The text and the elements of a page, without a browser."""

from html.parser import HTMLParser


def with_spaces(page: str) -> str:
    """A page in which a space where no line may break is a space as any other."""
    return page.replace("\N{NO-BREAK SPACE}", " ")


class Reads(HTMLParser):
    """The text and the elements of a page; in the text, all spaces are the same."""

    def __init__(self, page: str):
        super().__init__()
        self.text, self.elements = "", []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += with_spaces(data) + "\n"
