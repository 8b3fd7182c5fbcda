"""The Spark application that moves windows, and what it is made of."""
