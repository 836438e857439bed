//! Decides: project and observed state to stages of steps.
