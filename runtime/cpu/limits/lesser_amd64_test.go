package limits

func lesser() []loops { return []loops{avx2} }
