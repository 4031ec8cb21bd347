package usage_test

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
	"mvdan.cc/sh/v3/syntax"

	"github.com/marlingen/marlingen/cmd/marlingen/internal/usage"
)

type bakeCmd struct {
	Files  []string `arg:"" optional:"" help:"What to bake."`
	Oven   string   `help:"Oven: it's [hot]: ${enum}." enum:"gas,wood" default:"gas"`
	Tin    string   `help:"A folder." type:"existingdir" placeholder:"DIR"`
	Secret bool     `help:"Nobody knows." hidden:""`
	Quick  bool     `help:"A switch."`
}

func (bakeCmd) Help() string {
	return "Bakes.\n.Not a request, nor is \\e.\n\nMore:\n\n  demo bake --quick\n  'demo'\n\nAnd more."
}

type cutCmd struct {
	How string `arg:"" help:"How." enum:"thin,thick"`
}

func model(t *testing.T) *kong.Application {
	t.Helper()
	var cli struct {
		Bake bakeCmd `cmd:"" help:"Bake a loaf: slowly."`
		Cut  cutCmd  `cmd:"" help:"Cut the baker's loaf."`
		Burn cutCmd  `cmd:"" hidden:"" help:"Nobody burns."`
		Sell struct {
			Loaf struct {
				Price int `help:"In pence."`
			} `cmd:"" help:"A whole one."`
			Crumbs struct{} `cmd:"" help:"What is left."`
		} `cmd:"" help:"Sell."`
	}
	k, err := kong.New(&cli, kong.Name("demo"), kong.Description("\nMakes bread. Slices it.\n\nAnd so on.\n"))
	require.NoError(t, err)
	return k.Model
}

func completion(t *testing.T, shell string) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, usage.Completion(&b, shell, model(t)))
	require.NotContains(t, b.String(), "secret")
	require.NotContains(t, b.String(), "burn")
	return b.String()
}

// need skips a test where there is no such shell.
func need(t *testing.T, shell string) {
	t.Helper()
	if _, err := exec.LookPath(shell); err != nil {
		t.Skip(err)
	}
}

func TestBash(t *testing.T) {
	script := completion(t, "bash")
	_, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(script), "")
	require.NoError(t, err)
	need(t, "bash")
	for line, want := range map[string]string{
		"demo ":                 "bake cut sell --help",
		"demo sell ":            "loaf crumbs",
		"demo sell loaf --":     "--help --price",
		"demo b":                "bake",
		"demo bake --":          "--help --oven --tin --quick",
		"demo bake --quick --t": "--tin",
		"demo bake --oven ":     "gas wood",
		"demo bake --oven w":    "wood",
		"demo bake --oven = ":   "gas wood",
		"demo bake --oven = g":  "gas",
		"demo bake --tin ":      "",
		"demo bake x":           "",
		"demo cut ":             "thin thick",
		"demo cut thi":          "thin thick",
		"demo cut -":            "--help",
		"demo eat -":            "",
	} {
		words := strings.Split(strings.TrimSuffix(line, "= "), " ")
		if strings.HasSuffix(line, "= ") {
			words[len(words)-1] = "=" // as bash has it before a value
		}
		cmd := exec.Command("bash", "-c", script+`
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_demo
echo "${COMPREPLY[*]}"`, "-")
		cmd.Args = append(cmd.Args, words...)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Equal(t, want, strings.TrimSpace(string(out)), line)
	}
}

func TestZsh(t *testing.T) {
	script := completion(t, "zsh")
	require.Contains(t, script, `'bake:Bake a loaf, slowly.'`)
	require.Contains(t, script, `'--oven=[Oven, it'\''s (hot), gas,wood.]:gas:(gas wood)'`)
	require.Contains(t, script, `'--tin=[A folder.]:DIR:_files -/'`)
	require.Contains(t, script, `'--quick[A switch.]'`)
	require.Contains(t, script, `'*::(thin thick)'`)
	need(t, "zsh")
	cmd := exec.Command("zsh", "-f")
	cmd.Stdin = strings.NewReader("autoload -U compinit; compinit -D -u\n" + script + "\nprint -- $_comps[demo]\n")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Equal(t, "_demo\n", string(out))
}

func TestFish(t *testing.T) {
	script := completion(t, "fish")
	require.Contains(t, script, `-l oven -x -a 'gas wood' -d 'Oven: it\'s [hot]: gas,wood.'`)
	need(t, "fish")
	for line, want := range map[string][]string{
		"demo ":                {"bake", "cut", "sell"},
		"demo sell l":          {"loaf"},
		"demo c":               {"cut"},
		"demo bake --q":        {"--quick"},
		"demo bake --oven ":    {"gas", "wood"},
		"demo bake --oven=w":   {"--oven=wood"},
		"demo cut ":            {"thin", "thick"},
		"demo cut --quick --q": nil,
	} {
		cmd := exec.Command("fish", "--no-config", "-c", script+"\ncomplete -C "+"'"+line+"'")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		var have []string
		for l := range strings.Lines(string(out)) {
			word, _, _ := strings.Cut(strings.TrimSpace(l), "\t")
			have = append(have, word)
		}
		require.ElementsMatch(t, want, have, line)
	}
}

func TestUnknownShell(t *testing.T) {
	err := usage.Completion(&bytes.Buffer{}, "csh", model(t))
	require.EqualError(t, err, `no completions for "csh"; there are bash, zsh, fish`)
}

func TestMan(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, usage.Man(&b, model(t), [][2]string{{"0", "It rose."}}))
	page := b.String()
	for _, want := range []string{
		"demo \\- makes bread\n", // the first sentence
		".SH \"DESCRIPTION\"\nMakes bread. Slices it.\n.PP\nAnd so on.\n",
		".SS \"bake [<files> ...] [flags]\"\nBake a loaf: slowly.\n.PP\nBakes.\n\\&.Not a request, nor is \\ee.\n.PP\nMore:\n",
		".PP\n.nf\n  demo bake \\-\\-quick\n  'demo'\n.fi\n.PP\nAnd more.\n",
		".TP\n\\fB\\-\\-oven\\fR=\\fIgas\\fR\nOven: it's [hot]: gas,wood.\n",
		".TP\n\\fB\\-\\-quick\\fR\nA switch.\n",
		".TP\n\\fIhow\\fR\nHow.\n",
		".SS \"sell loaf [flags]\"\nA whole one.\n.TP\n\\fB\\-\\-price\\fR",
		".SH \"EXIT STATUS\"\n.TP\n\\fB0\\fR\nIt rose.\n",
	} {
		require.Contains(t, page, want)
	}
	require.NotContains(t, page, "secret")
	require.NotContains(t, page, "burn")
	if _, err := exec.LookPath("groff"); err == nil {
		cmd := exec.Command("groff", "-man", "-Tascii", "-ww", "-z")
		cmd.Stdin = &b
		out, err := cmd.CombinedOutput()
		require.NoError(t, err)
		require.Empty(t, string(out), "warnings")
	}
}
