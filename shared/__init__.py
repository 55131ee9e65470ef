"""What more than one service needs, each package one behaviour."""
