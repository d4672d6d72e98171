"""One look per head, everywhere and for ever; figures that repeat to the byte."""

from matplotlib.figure import Figure

from reports import style


def test_known_looks_are_distinct():
    assert len(set(style.KNOWN.values())) == len(style.KNOWN)
    for look in style.KNOWN.values():
        assert look.colour in style.COLOURS.values()
        assert look.marker in style.MARKERS and look.dashes in style.DASHES


def test_unknown_heads_get_a_look_from_their_name_alone():
    assert style.look("my_head&50%#{}") == style.look("my_head&50%#{}")
    assert style.look("newcomer") == style.Look("#CC79A7", ">", "-")  # moves if the rule moves
    assert len({style.look(f"head{i}") for i in range(40)}) > 30


def test_order():
    heads = ["zebra", "psc > ncm", "dl2pa momentum=0.5", "dl2pa", "psc", "psc", "aardvark"]
    wanted = ["psc", "dl2pa", "dl2pa momentum=0.5", "psc > ncm", "aardvark", "zebra"]
    assert style.order(heads) == wanted


def test_colours_can_be_told_apart_in_grey_or_by_marker():
    """Heads most often drawn together differ in marker, so that grey print still reads."""
    together = ["psc", "etf", "hpn", "dl2pa", "dl2pa assignment=fixed", "psc > ncm"]
    assert len({style.look(head).marker for head in together}) == len(together)


def test_figures_repeat_to_the_byte_and_carry_no_date():
    def figure() -> Figure:
        drawn = Figure()
        drawn.subplots().set_title(style.plain("_a$b$ 50%"))
        return drawn

    first, second = figure(), figure()
    assert style.pdf(first) == style.pdf(second)
    assert style.png(first) == style.png(second) == style.png(first)
    assert b"CreationDate" not in style.pdf(first)
    assert b"/Type3" not in style.pdf(first) and b"/FontFile2" in style.pdf(first)  # fonttype 42


def test_a_variant_of_a_pipe_stands_after_its_plain_pipe():
    heads = ["psc > prototypes adjust=0 temperatures=False", "etf", "psc > prototypes", "psc > ncm"]
    heads += ["psc > ncm transform=l2n", "psc", "psc dim=3 > ncm"]
    assert style.order(heads) == [
        *("psc", "etf", "psc > ncm", "psc > ncm transform=l2n", "psc dim=3 > ncm"),
        *("psc > prototypes", "psc > prototypes adjust=0 temperatures=False"),
    ]


def test_a_second_print_is_the_first():
    """A constrained layout starts from the one before it: left alone, the two would differ."""

    def drawn() -> Figure:
        figure = Figure(figsize=(4, 3), layout="constrained")
        axes = figure.subplots(1, 2)
        axes[0].plot([0, 1], [0, 1], label="a long label beside the axes")
        axes[1].set_ylabel("a long name of the axis")
        figure.legend(loc="outside right upper")
        return figure

    figure, other = drawn(), drawn()
    assert style.pdf(figure) == style.pdf(figure)
    assert style.png(other) == style.png(other) == style.png(figure)
