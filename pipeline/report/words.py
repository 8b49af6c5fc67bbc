"""What headings and figures are called on the page."""

AUDIT_HEADINGS = {
    "kind": "errors",
    "fraction": "share of labels",
    "n_planted": "wrong labels",
    "n_suspect": "doubted labels",
    "average_precision": "average precision",
    "random_average_precision": "average precision in a random order",
}
NAMES = {
    "accuracy": "Accuracy",
    "accuracy_smoothed": "Accuracy, smoothed over time",
    "f1_macro": "Macro F1",
    "balanced_accuracy": "Balanced accuracy",
    "top3_accuracy": "Top-3 accuracy",
    "roc_auc": "ROC AUC",
    "ece": "Calibration error (ECE)",
    "ece_by_chance": "ECE that chance explains",
    "classwise_ece": "Classwise ECE",
    "classwise_rmse": "Classwise error, debiased",
    "f1_weighted": "Weighted F1",
    "mcc": "Matthews’ correlation",
    "largest_class": "Always the largest class",
    "worst_recall": "Recall of the worst class",
    "set_coverage": "Coverage of the sets",
    "set_size": "Size of a set",
    "log_loss": "Log loss",
    "brier": "Brier score",
}
VERDICT = {
    "trust": "Holds",
    "beware": "Beware",
    "next": "Do next",
    "unmeasured": "Unknown",
}
