//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode/utf8"
)

// table gathers the figures.
type table struct {
	built binaries
	of    map[string]map[string]figures // by row and product
	loads []float64
}

func newTable(b binaries) *table {
	return &table{built: b, of: map[string]map[string]figures{}}
}

func (t *table) add(product string, samples []sample) {
	for _, s := range samples {
		if t.of[s.Row] == nil {
			t.of[s.Row] = map[string]figures{}
		}
		t.of[s.Row][product] = append(t.of[s.Row][product], s)
	}
	t.loads = append(t.loads, load())
}

// saved is a line of the file of figures.
type saved struct {
	Revision, Product string
	Load              float64
	Sample            sample
}

// save appends samples to file.
func (t *table) save(file, product string, samples []sample) error {
	var b bytes.Buffer
	for _, s := range samples {
		if err := json.NewEncoder(&b).Encode(saved{t.built.revision, product, load(), s}); err != nil {
			return fmt.Errorf("save figures: %w", err)
		}
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("save figures: %w", err)
	}
	_, err = f.Write(b.Bytes())
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("save figures: %w", err)
	}
	return nil
}

// load takes in what an earlier part of the run has saved: all figures of serf
// and of the floor, and those of this revision of ours.
func (t *table) load(file string) error {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("load figures: %w", err)
	}
	for line := range bytes.Lines(b) {
		var s saved
		if err := json.Unmarshal(line, &s); err != nil {
			return fmt.Errorf("load figures from %s: %w", file, err)
		}
		if s.Product == "ours" && s.Revision != t.built.revision {
			continue
		}
		t.add(s.Product, []sample{s.Sample})
		t.loads[len(t.loads)-1] = s.Load
	}
	return nil
}

// print writes the table: the rows named, or all that have figures.
func (t *table) print(w io.Writer, ids []string, md bool) {
	lines := [][]string{{"", "ours", "serf", "serf / ours", "our bar", ""}}
	for _, r := range rows {
		f := t.of[r.id]
		if len(f) == 0 || len(ids) > 0 && !slices.Contains(ids, r.id) {
			continue
		}
		lines = append(lines, []string{
			r.title, f["ours"].cell(r.unit), f["serf"].cell(r.unit),
			ratio(r.unit, f["ours"], f["serf"]), r.barText(f["bare"]), r.verdict(f["ours"], f["bare"]),
		})
	}
	if len(lines) == 1 {
		return
	}
	slices.Sort(t.loads)
	head := fmt.Sprintf("peer %s beside serf %s; median (least..most, how many); %d cores, load average %.1f..%.1f",
		t.built.revision, t.built.serfVersion, cores(), t.loads[0], t.loads[len(t.loads)-1])
	if md {
		printMarkdown(w, head, lines)
		return
	}
	printText(w, head, lines)
}

func printMarkdown(w io.Writer, head string, lines [][]string) {
	fmt.Fprintf(w, "%s\n\n", head)
	for i, l := range lines {
		fmt.Fprintf(w, "| %s |\n", strings.Join(l, " | "))
		if i == 0 {
			fmt.Fprintf(w, "|%s\n", strings.Repeat("---|", len(l)))
		}
	}
}

func printText(w io.Writer, head string, lines [][]string) {
	fmt.Fprintf(w, "%s\n\n", head)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i, l := range lines {
		fmt.Fprintln(tw, strings.ReplaceAll(strings.Join(l, "\t"), "\\|", "|"))
		if i == 0 {
			var rule []string
			for _, c := range l {
				rule = append(rule, strings.Repeat("-", utf8.RuneCountInString(c)))
			}
			fmt.Fprintln(tw, strings.Join(rule, "\t"))
		}
	}
	tw.Flush()
}
