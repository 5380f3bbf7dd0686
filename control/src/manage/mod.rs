//! What an operator asks: the management socket, `show` and `clear`, HTTP for scraping.
