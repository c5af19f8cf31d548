"""What the tests generate is kept in pytest's cache folder, so that a second run of them compiles nothing."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _generated_code(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    cache = getattr(request.config, "cache", None)  # there is none under -p no:cacheprovider
    folder = cache.mkdir("graphc") if cache is not None else tmp_path_factory.mktemp("graphc")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAPHC_CACHE_DIR", str(folder))
        yield
