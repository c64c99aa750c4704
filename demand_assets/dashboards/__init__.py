"""What people look at: the InfluxDB dashboard, and the page for those without one."""
