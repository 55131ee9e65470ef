"""What people and tests run; nothing imports a tool."""
