package gen

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"slices"
	"strconv"
)

// A Formula is a number of a pass, or follows from others of its numbers, as in
// 2*chunk + max(threads, 128)/4. It has the operators + - * / and %, which are
// those of Go's integers, parentheses, max and min.
type Formula string

// biggest is the largest size of what a formula and its parts may be.
const biggest = 1 << 31

// value returns what f is, where names have the given values.
func (f Formula) value(names map[string]int) (int, error) {
	e, err := parser.ParseExpr(string(f))
	if err != nil {
		return 0, fmt.Errorf("%q is not a number, nor a formula such as 2*chunk + threads/4", string(f))
	}
	n, err := evaluate(e, names)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", f, err)
	}
	return n, nil
}

// literal returns the number that f is, if it is no formula.
func (f Formula) literal() (int, bool) {
	n, err := strconv.Atoi(string(f))
	return n, err == nil
}

func evaluate(e ast.Expr, names map[string]int) (int, error) {
	n, err := evaluateAny(e, names)
	if err == nil && (n > biggest || n < -biggest) {
		err = fmt.Errorf("it is beyond %d", biggest)
	}
	return n, err
}

func evaluateAny(e ast.Expr, names map[string]int) (int, error) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if n, err := strconv.Atoi(e.Value); err == nil {
			return n, nil
		}
	case *ast.Ident:
		if n, ok := names[e.Name]; ok {
			return n, nil
		}
		return 0, fmt.Errorf("there is no number %s; there are %s", e.Name, list(slices.Sorted(maps.Keys(names))))
	case *ast.ParenExpr:
		return evaluate(e.X, names)
	case *ast.BinaryExpr:
		x, err := evaluate(e.X, names)
		if err != nil {
			return 0, err
		}
		y, err := evaluate(e.Y, names)
		if err != nil {
			return 0, err
		}
		return operate(x, e.Op, y)
	case *ast.CallExpr:
		return call(e, names)
	}
	return 0, fmt.Errorf("a formula has numbers, names, + - * / %%, parentheses, max and min")
}

func operate(x int, op token.Token, y int) (int, error) {
	switch op {
	case token.ADD:
		return x + y, nil
	case token.SUB:
		return x - y, nil
	case token.MUL:
		return x * y, nil
	case token.QUO, token.REM:
		if y == 0 {
			return 0, fmt.Errorf("it divides by 0")
		}
		if op == token.QUO {
			return x / y, nil
		}
		return x % y, nil
	}
	return 0, fmt.Errorf("there is no operator %v", op)
}

// call evaluates max and min.
func call(e *ast.CallExpr, names map[string]int) (int, error) {
	f, ok := e.Fun.(*ast.Ident)
	if !ok || f.Name != "max" && f.Name != "min" || len(e.Args) == 0 || e.Ellipsis.IsValid() {
		return 0, fmt.Errorf("its functions are max and min")
	}
	var args []int
	for _, a := range e.Args {
		n, err := evaluate(a, names)
		if err != nil {
			return 0, err
		}
		args = append(args, n)
	}
	if f.Name == "max" {
		return slices.Max(args), nil
	}
	return slices.Min(args), nil
}
