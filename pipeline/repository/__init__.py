"""The git repository that holds the project, at its top or in a sub-folder.

git        runs git, and says what to do where it fails
state      which commit the code in use is, and which files are in no commit
worktree   an old commit, checked out into a scratch folder
merging    a three-way merge of YAML by keys; blocks: of its text
update     a newer Fieldmark, with one's own values kept
quick      params.yaml turned to a quick try
"""
