"""Teaching the default model the course's jobs: data, training and proof of the `course` adapter."""
