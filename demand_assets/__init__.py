"""Spain's hourly electricity demand, from the REData API to InfluxDB, as Dagster assets."""
