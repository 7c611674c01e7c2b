"""The report of a run: what it says (`analysis`), what it draws (`figures`), and the page (`build`)."""
