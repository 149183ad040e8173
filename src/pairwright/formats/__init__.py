"""Reading and writing preference data.

files.py            rows with line numbers from anything that holds rows
record.py           what a format makes of one row, and how it reads its cells
sides.py            two sides of a comparison split into one prompt and two answers
mapping.py          formats that only name their columns, and the user's own `columns=`
trl.py, hh.py, ...  one file for each family of formats
table.py            FORMATS, and how the format of a file is found
build.py            records put together into the three frames of `Preferences`
read.py             `read`
write.py            flat files for other trainers
"""
