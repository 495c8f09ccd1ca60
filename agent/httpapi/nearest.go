package httpapi

import (
	"maps"
	"slices"
)

// nearestOf returns the one of known that s is likely a misspelling of, or "".
func nearestOf(s string, known []string) string {
	best, least := "", 3 // more than two slips is another word
	if len(s) > 64 {
		return ""
	}
	for _, k := range known {
		if d := editDistance(s, k); d < least && d < len(k) {
			best, least = k, d
		}
	}
	return best
}

func nearest(s string, known map[string]bool) string {
	return nearestOf(s, slices.Sorted(maps.Keys(known)))
}

// editDistance counts the bytes to insert, delete or replace to turn a into b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
