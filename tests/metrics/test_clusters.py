

@pytest.mark.parametrize("n", range(2, 400, 7))
def test_all_or_none_of_any_number_ends_at_one_or_zero(n: int) -> None:
    sizes = [1 + i % 3 for i in range(n)]
    for successes, edge, at in ((sizes, 1, 1.0), ([0] * n, 0, 0.0)):
        interval = clustered(successes, sizes)
        assert interval is not None
        assert interval[edge] == at
