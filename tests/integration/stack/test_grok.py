"""A language model as the brain, from its answer to an order, with a job in between and not in the way."""

from __future__ import annotations

import json
import time

from tests.servers.market import KEY, FinnhubServer, XaiServer, minutes
from tests.servers.stack import ON, Stack
from tests.support import eventually


def test_grok_when_it_predicts_a_rise_is_bought_on(stack: Stack) -> None:
    with XaiServer() as xai:
        xai.text = json.dumps({"predictions": {"AAPL": {"change_pct": 0.09, "confidence": 0.8}}})
        settings = {"PREDICTOR": "grok", "GROK_API_KEY": KEY, "GROK_BASE_URL": xai.url, "GROK_SECONDS": "30"}
        settings |= {"MARKET_DATA": "finnhub", "FINNHUB_API_KEY": KEY}
        with FinnhubServer() as finnhub:
            finnhub.candles["AAPL"] = minutes(180, int(time.time()))
            settings["FINNHUB_URL"] = finnhub.url
            stack.start("emergency", "trading", "jobs", **settings)
            stack.set("trading_settings", ON)
            eventually(lambda: stack.trades("filled"), 60, what=f"the trade: {stack.output('jobs')[-2000:]}")
        entry = stack.trades("filled")[0]
        assert entry["ticker"] == "AAPL"
        assert "grok:grok-4" in entry["reason"]
        assert xai.asked[0]["model"] == "grok-4"
        assert json.loads(xai.asked[0]["messages"][1]["content"])["tickers"]["AAPL"]["closes"] == [100.5] * 60
