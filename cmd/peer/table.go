package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// table is rows of cells, each row in one style: colour inside a cell would
// spoil the widths.
type table struct {
	head []string
	rows []row
}

type row struct {
	style string
	cells []string
}

func (t *table) header(cells ...string) { t.head = cells }

func (t *table) add(style string, cells ...string) {
	for i, c := range cells {
		cells[i] = cell(c)
	}
	t.rows = append(t.rows, row{style, cells})
}

// write draws the table; one without rows draws nothing.
func (t *table) write(w io.Writer, colour bool) error {
	if len(t.rows) == 0 {
		return nil
	}
	var b bytes.Buffer
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	styles := make([]string, 0, len(t.rows)+1)
	if t.head != nil {
		fmt.Fprintln(tw, strings.Join(t.head, "\t"))
		styles = append(styles, styleStrong)
	}
	for _, r := range t.rows {
		fmt.Fprintln(tw, strings.Join(r.cells, "\t"))
		styles = append(styles, r.style)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for i, line := range strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n") {
		line = strings.TrimRight(line, " ")
		if colour && styles[i] != styleNone {
			line = styles[i] + line + styleEnd
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

// short writes a duration with the two units that matter: 3d4h, 5m12s, 820ms.
func short(d time.Duration) string {
	neg := ""
	if d < 0 {
		neg, d = "-", -d
	}
	switch {
	case d < time.Second:
		return neg + d.Round(time.Millisecond).String()
	case d < 10*time.Second:
		return fmt.Sprintf("%s%.1fs", neg, d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%s%ds", neg, d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%s%dm%ds", neg, d/time.Minute, d%time.Minute/time.Second)
	case d < 24*time.Hour:
		return fmt.Sprintf("%s%dh%dm", neg, d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%s%dd%dh", neg, d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

func shortMS(ms int64) string { return short(time.Duration(ms) * time.Millisecond) }

// rtt writes a measured time in milliseconds; nil is not measured yet.
func rtt(ms *float64) string {
	switch {
	case ms == nil:
		return "-"
	case *ms < 1:
		return fmt.Sprintf("%.2fms", *ms)
	case *ms < 100:
		return fmt.Sprintf("%.1fms", *ms)
	}
	return short(time.Duration(*ms * float64(time.Millisecond)))
}
