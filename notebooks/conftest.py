"""What nbval does not compare: pictures of tables in HTML, and what goes to stderr."""


def pytest_collectstart(collector):
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr", "text/html", "image/png")
