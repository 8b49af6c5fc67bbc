"""What lies on disk, and how it gets there whole.

table       the one table that goes through all stages
store       packed images and arrays; files that are named once they are whole
csvs        tables for people and spreadsheets: no cell is a formula
shards      a cache of arrays by key
resumable   arrays that a killed run goes on filling
"""
