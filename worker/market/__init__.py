"""Market data from elsewhere than the venue, for predictions only: orders are judged by the venue's own prices."""
