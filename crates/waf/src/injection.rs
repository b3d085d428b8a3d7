//! The one seam over the detection of SQL injection and cross-site scripting.
