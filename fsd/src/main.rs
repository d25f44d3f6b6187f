//! fsd.
fn main(){}
