package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/urfave/cli/v2"
)

// build says what this binary is made of. Its JSON is `peer version -o json`.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit"`
	Time     string `json:"time"`     // of the commit
	Modified bool   `json:"modified"` // the tree had changes beyond it
	Go       string `json:"go"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
}

func readBuild() build {
	b := build{Version: "devel", Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		b.Version = v
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

func versionVerb() *verb {
	return &verb{
		name:  "version",
		form:  "[-o FORMAT]",
		short: "what this binary is",
		long:  "Prints the version, the commit and the Go release that this binary was built from.",
		examples: `
			peer version -o json`,
		group: groupSetup,
		flags: []cli.Flag{outputFlag()},
		run: func(inv *invocation) error {
			b := readBuild()
			f := format{kind: "table"}
			if inv.verb != nil {
				var err error
				if f, err = inv.format(); err != nil {
					return err
				}
			}
			body, err := json.Marshal(b)
			if err != nil {
				return err
			}
			return inv.print(f, document{
				body:  append(body, '\n'),
				names: []string{b.Version},
				table: func(t *table, wide bool) {
					words := []string{"peer " + b.Version}
					if b.Commit != "" && !strings.Contains(b.Version, b.Commit[:min(12, len(b.Commit))]) {
						words = append(words, "commit "+b.Commit[:min(12, len(b.Commit))])
					}
					words = append(words, b.Go, b.OS+"/"+b.Arch)
					t.add(styleNone, strings.Join(words, ", "))
					if wide {
						t.add(styleNone, fmt.Sprintf("commit %s of %s, modified: %v", b.Commit, b.Time, b.Modified))
					}
				},
			})
		},
	}
}
