"""The git repository that holds the project, at its top or in a sub-folder.

git        asks git, and says what to do where it does not answer
state      which commit the code in use is, and what of it is in no commit
worktree   an old commit, checked out into a scratch folder
merging    a three-way merge of YAML by keys, over blocks of text
update     a newer Fieldmark, with one's own values kept
"""
