"""What ``aiorchctl doctor`` looks at: one file for each part of the house, each giving findings with their remedies."""
