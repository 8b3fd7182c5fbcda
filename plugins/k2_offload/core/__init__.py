"""Pure rules: no Airflow, Spark, network or clock inside. Time comes in as an argument."""
