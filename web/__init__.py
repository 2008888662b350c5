"""The web frontend: reads keys, writes keys, nothing else. It works while every worker is down."""
