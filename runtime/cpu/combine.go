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
		row, y, out := c.uints("row"), c.floats("y"), c.floats("out")
		columns, slots := int(c.shape.Hidden), int(c.shape.Slots)
		if err := c.below("row", row, c.shape.Rows, "rows"); err != nil {
			return err
		}
		return c.each(int(c.shape.Tokens), stateless(func(t int) {
			out := out[t*columns : (t+1)*columns]
			clear(out)
			for _, r := range row[t*slots : (t+1)*slots] {
				for i, v := range y[int(r)*columns : (int(r)+1)*columns] {
					out[i] += v
				}
			}
		}))
	},
}
