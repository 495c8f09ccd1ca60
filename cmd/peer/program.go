package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/peerhq/peer/cmd/peer/guard"
	"github.com/urfave/cli/v2"
)

// program is the world that a verb runs in.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	environ        []string
}

// env returns an environment variable. An empty one counts as unset.
func (p *program) env(key string) string {
	for _, kv := range slices.Backward(p.environ) {
		if k, v, ok := strings.Cut(kv, "="); ok && k == key {
			return v
		}
	}
	return ""
}

// verb declares one command of the command line.
type verb struct {
	name     string
	form     string // what follows the name, as a person would type it
	short    string // one line of `peer help`
	long     string // the paragraphs of its own help
	examples string // one a line, each with its comment above
	exits    []int  // beyond 0, 1 and 64
	ends     string // instead of the line about COMMAND's own exit code
	group    string // heading in `peer help`; hidden when empty
	flags    []cli.Flag
	min, max int      // arguments; max < 0 means any number
	command  bool     // it runs what stands behind `--`
	late     []string // switches that may stand behind the arguments too
	mixed    bool     // all flags may
	run      func(inv *invocation) error
	verbs    []*verb // instead of run, or beside it
	parent   string
}

func (v *verb) path() string { return strings.TrimSpace("peer " + v.parent + v.name) }

// invocation is one call of one verb.
type invocation struct {
	*program
	context.Context
	verb *verb
	cli  *cli.Context
	args []string

	ahead *guard.Ahead // of COMMAND's guard; nil for none
}

func (inv *invocation) flag(name string) string    { return inv.cli.String(name) }
func (inv *invocation) flags(name string) []string { return inv.cli.StringSlice(name) }
func (inv *invocation) has(name string) bool       { return inv.cli.IsSet(name) }
func (inv *invocation) usage(format string, a ...any) error {
	return &usageError{verb: inv.verb, text: fmt.Sprintf(format, a...)}
}

// note tells the person something that is not data.
func (inv *invocation) note(format string, a ...any) {
	fmt.Fprintf(inv.stderr, "%s: %s\n", inv.verb.path(), clean(fmt.Sprintf(format, a...)))
}

// verbs is the whole command line, in the order of `peer help`.
func verbs() []*verb {
	all := []*verb{
		agentVerb(), devVerb(),
		statusVerb(), membersVerb(), nextVerb(), servicesVerb(), watchVerb(), eventsVerb(), rttVerb(), joinVerb(), leaveVerb(), forgetVerb(),
		lockVerb(), electVerb(), locksVerb(), unlockVerb(),
		configVerb(), keygenVerb(), keyringVerb(), completionVerb(), versionVerb(), helpVerb(),
	}
	for _, v := range all {
		for _, sub := range v.verbs {
			sub.parent = v.name + " "
		}
	}
	return all
}

func findVerb(all []*verb, name string) *verb {
	for _, v := range all {
		if v.name == name {
			return v
		}
	}
	return nil
}

// app builds the parser. The library is used for what it does well, telling
// flags from arguments; help, errors, environment and exit codes are ours.
func (p *program) app() *cli.App {
	cli.HelpFlag = nil
	cli.VersionFlag = nil
	all := verbs()
	app := &cli.App{
		Name:                      "peer",
		HideHelp:                  true,
		HideVersion:               true,
		DisableSliceFlagSeparator: true,
		Reader:                    p.stdin,
		Writer:                    p.stdout,
		ErrWriter:                 p.stderr,
		ExitErrHandler:            func(*cli.Context, error) {}, // the default calls os.Exit
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "help", Aliases: []string{"h"}},
			&cli.BoolFlag{Name: "version"},
		},
		OnUsageError: func(_ *cli.Context, err error, _ bool) error {
			return &usageError{text: parseError(err, nil, all)}
		},
		Action: func(c *cli.Context) error {
			inv := &invocation{program: p, Context: c.Context, cli: c, args: c.Args().Slice()}
			switch {
			case c.Bool("help"):
				return inv.overview(p.stdout)
			case c.Bool("version"):
				return findVerb(all, "version").run(inv)
			case len(inv.args) == 0:
				return &usageError{text: "no verb"}
			}
			return unknownVerb("", inv.args[0], all)
		},
	}
	for _, v := range all {
		app.Commands = append(app.Commands, p.command(v))
	}
	return app
}

func (p *program) command(v *verb) *cli.Command {
	cmd := &cli.Command{
		Name:     v.name,
		Usage:    v.short,
		HideHelp: true,
		Flags:    append(slices.Clone(v.flags), &cli.BoolFlag{Name: "help", Aliases: []string{"h"}}),
		OnUsageError: func(_ *cli.Context, err error, _ bool) error {
			return &usageError{verb: v, text: parseError(err, v, nil)}
		},
		Action: func(c *cli.Context) error { return p.invoke(v, c) },
	}
	for _, sub := range v.verbs {
		cmd.Subcommands = append(cmd.Subcommands, p.command(sub))
	}
	return cmd
}

// invoke checks the shape of the arguments, which the parser does not, and runs
// the verb.
func (p *program) invoke(v *verb, c *cli.Context) error {
	inv := &invocation{program: p, Context: c.Context, verb: v, cli: c, args: c.Args().Slice()}
	if c.Bool("help") || inv.lateHelp() {
		return inv.manual(p.stdout, v)
	}
	if v.verbs != nil && v.run == nil {
		if len(inv.args) == 0 {
			return inv.usage("one more word is needed")
		}
		return unknownVerb(v.name+" ", inv.args[0], v.verbs)
	}
	for _, name := range v.late {
		if i := slices.Index(inv.args, name); i >= 0 {
			inv.args = slices.Delete(inv.args, i, i+1)
			if err := c.Set(strings.TrimLeft(name, "-"), "true"); err != nil {
				return err
			}
		}
	}
	if v.mixed {
		if err := inv.lateFlags(); err != nil {
			return err
		}
		if len(inv.args) < v.min || len(inv.args) > v.max {
			return inv.usage("want one argument")
		}
		return v.run(inv)
	}
	own := inv.args
	if i := slices.Index(own, "--"); i >= 0 {
		if own = own[:i]; !v.command {
			inv.args = slices.Delete(inv.args, i, i+1) // what follows are arguments, whatever they look like
		}
	}
	for _, a := range own {
		if len(a) > 1 && a[0] == '-' {
			return inv.usage("flag %s stands after an argument; flags come first", a)
		}
	}
	if !v.command {
		switch {
		case len(inv.args) < v.min:
			return inv.usage("an argument is missing")
		case v.max >= 0 && len(inv.args) > v.max:
			return inv.usage("argument %q is one too many", inv.args[v.max])
		}
	}
	return v.run(inv)
}

// lateHelp accepts --help behind an argument too: who asks for help gets it.
func (inv *invocation) lateHelp() bool {
	for _, a := range inv.args {
		if a == "--" {
			return false
		}
		if a == "--help" || a == "-h" {
			return true
		}
	}
	return false
}

func unknownVerb(parent, name string, all []*verb) error {
	var names []string
	for _, v := range all {
		names = append(names, v.name)
	}
	text := fmt.Sprintf("unknown verb %q", parent+name)
	if s := nearest(name, names); s != "" {
		text += fmt.Sprintf("; did you mean %q?", "peer "+parent+s)
	}
	return &usageError{text: text}
}

// parseError says in our words what the parser found wrong.
func parseError(err error, v *verb, all []*verb) string {
	text := err.Error()
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: -"); ok {
		name = strings.TrimLeft(name, "-")
		if v == nil {
			return fmt.Sprintf("unknown flag --%s before the verb; flags come after it, as in `peer members --%s …`", name, name)
		}
		s := fmt.Sprintf("unknown flag %s", dashed(name))
		if near := nearest(name, flagNames(v)); near != "" {
			s += fmt.Sprintf("; did you mean %s?", dashed(near))
		}
		return s
	}
	if name, ok := strings.CutPrefix(text, "flag needs an argument: -"); ok {
		return fmt.Sprintf("flag %s needs a value", dashed(strings.TrimLeft(name, "-")))
	}
	if names, ok := strings.CutPrefix(text, "Cannot use two forms of the same flag: "); ok {
		a, b, _ := strings.Cut(names, " ")
		return fmt.Sprintf("%s and %s are the same flag; give one of them", dashed(a), dashed(b))
	}
	// invalid value "x" for flag -wait: parse error
	if head, tail, ok := strings.Cut(text, " for flag -"); ok {
		name, why, _ := strings.Cut(tail, ": ")
		if v != nil {
			why = wantOf(v, name, why)
		}
		return fmt.Sprintf("%s for %s: %s", head, dashed(name), why)
	}
	return strings.Replace(text, " for -", " for --", 1)
}

func wantOf(v *verb, name, why string) string {
	for _, f := range v.flags {
		if !slices.Contains(f.Names(), name) {
			continue
		}
		switch f.(type) {
		case *cli.DurationFlag:
			return "want a duration such as 500ms, 10s or 2m"
		case *cli.IntFlag, *cli.Uint64Flag:
			return "want a whole number"
		}
	}
	return why
}

func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

func flagNames(v *verb) []string {
	names := []string{"help"}
	for _, f := range v.flags {
		names = append(names, f.Names()...)
	}
	return names
}
