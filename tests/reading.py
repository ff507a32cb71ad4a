"""The text and the elements of a page, without a browser."""

from html.parser import HTMLParser


class Reads(HTMLParser):
    """The text and the elements of a page."""

    def __init__(self, page: str):
        super().__init__()
        self.text, self.elements = "", []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data + "\n"
