"""The reference page lists every route of the API, with the scope that it wants."""

from __future__ import annotations

from pathlib import Path

from shared.config import Config
from shared.store import Store
from web.api.openapi import specification
from web.app import create_app

PAGE = Path("docs/reference/api.md")


def test_api_page_when_compared_with_the_routes_has_each_of_them_and_no_other(
    store: Store, redis_url: str, tmp_path: Path
) -> None:
    app = create_app(Config(_env_file=None, sixbot_home=tmp_path, redis_url=redis_url), store)
    with app.app_context():
        paths = specification()["paths"]
    wanted = {
        f"| {method.upper()} | `{path}` | {' or '.join(found['security'][0]['token']) if found['security'] else '–'} |"
        for path, methods in paths.items()
        for method, found in methods.items()
    }
    rows = [line for line in PAGE.read_text().splitlines() if "`/api" in line and line.startswith("| ")]
    assert {f"{row.rsplit('|', 2)[0]}|" for row in rows} == wanted
