package cpu

var combine = &pass{
	params: []param{
		constant("shape", "Shape"),
		read("row", "uint", words(tokens, slots)),
		read("y", "float", words(rows, hidden)),
		write("out", "float", words(tokens, hidden)),
	},
	check: checkRows,
	run: func(c *call) error {
		if err := c.below("row", c.uints("row"), c.shape.Rows, "rows"); err != nil {
			return err
		}
		return c.each(int(c.shape.Tokens), combineToken)
	},
}

func combineToken(c *call, _ *scratch, t int) {
	columns, slots := int(c.shape.Hidden), int(c.shape.Slots)
	y, out, rows := c.floats("y"), c.floats("out")[t*columns:(t+1)*columns], c.uints("row")[t*slots:(t+1)*slots]
	whole := columns / 16 * 16
	if whole > 0 && slots > 0 {
		c.engine.set.Sum(&out[0], &y[0], &rows[0], slots, 4*columns, whole)
	} else {
		whole = 0
	}
	for i := whole; i < columns; i++ {
		out[i] = 0
		for _, r := range rows {
			out[i] += y[int(r)*columns+i]
		}
	}
}
