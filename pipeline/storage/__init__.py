"""Files on disk that are either complete or not there.

table       the one table that goes through all stages
store       packed images and arrays; files that are named once they are complete
csvs        tables for people and spreadsheets: no cell is a formula
memo        results that are not computed again; code: the code they came from; usage: how much
            there is of them
resumable   arrays that a killed run goes on filling
"""
