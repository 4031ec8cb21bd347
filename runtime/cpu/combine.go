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
	y, out := c.floats("y"), c.floats("out")[t*columns:(t+1)*columns]
	clear(out)
	for _, r := range c.uints("row")[t*slots : (t+1)*slots] {
		y := y[int(r)*columns:][:len(out)]
		whole := len(out) / 16 * 16
		if whole > 0 {
			c.engine.set.Add(&out[0], &y[0], whole)
		}
		for i := whole; i < len(out); i++ {
			out[i] += y[i]
		}
	}
}
