//! What an answer means: which statuses are worth another try, and when.
