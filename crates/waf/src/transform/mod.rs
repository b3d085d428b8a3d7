//! Transformations (`t:lowercase`, …): one small file each.
