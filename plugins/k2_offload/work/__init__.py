"""What is done with the two tiers and the ledger: functions that know neither Airflow, a screen nor the web."""
