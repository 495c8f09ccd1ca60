package cluster

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of what a peer calls itself and its cluster.
const (
	maxNameBytes     = 128 // with "#" and an instance it stays far below what memberlist carries
	maxLabelBytes    = 255 // memberlist's: one length byte
	maxTags          = 64
	maxTagKeyBytes   = 64
	maxTagValueBytes = 256
)

// validateName returns every rule that s breaks as the name of a peer. '#' can
// not be part of a name: the gossip name of a start is NAME#INSTANCE.
func validateName(s string) error {
	if s == "" {
		return errors.New("name is empty: set one, such as the host's name")
	}
	var errs []error
	if len(s) > maxNameBytes {
		errs = append(errs, fmt.Errorf("name %s has %d bytes: shorten it to %d", quote(s), len(s), maxNameBytes))
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return !isNameRune(r) }); i >= 0 {
		r, _ := utf8.DecodeRuneInString(s[i:])
		errs = append(errs, fmt.Errorf("name %s has the character %q: use letters, digits, '-', '_' and '.'", quote(s), r))
	}
	if r, _ := utf8.DecodeRuneInString(s); isNameRune(r) && !isAlphanumeric(r) {
		errs = append(errs, fmt.Errorf("name %s starts with %q: start it with a letter or a digit", quote(s), r))
	}
	return errors.Join(errs...)
}

// validateLabel returns every rule that s breaks as the label of a cluster.
// Two clusters that can reach each other stay apart by their labels, so it is
// never empty.
func validateLabel(s string) error {
	if s == "" {
		return errors.New("cluster label is empty: set one, the same on every peer of the cluster")
	}
	var errs []error
	if len(s) > maxLabelBytes {
		errs = append(errs, fmt.Errorf("cluster label %s has %d bytes: shorten it to %d", quote(s), len(s), maxLabelBytes))
	}
	if i := unprintable(s); i >= 0 {
		errs = append(errs, fmt.Errorf("cluster label %s has a character at byte %d that cannot be printed: remove it", quote(s), i))
	}
	if strings.TrimSpace(s) != s {
		errs = append(errs, fmt.Errorf("cluster label %s has white space around it: remove it", quote(s)))
	}
	return errors.Join(errs...)
}

// validateTags returns every rule that tags break, and of each rule the tag
// that breaks it worst.
func validateTags(tags map[string]string) error {
	var errs []error
	if len(tags) > maxTags {
		errs = append(errs, fmt.Errorf("%d tags: remove %d, a peer carries %d", len(tags), len(tags)-maxTags, maxTags))
	}

	var badKey, longValue, badValue []string
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		v := tags[k]
		if !isTagKey(k) {
			badKey = append(badKey, k)
		}
		if len(v) > maxTagValueBytes {
			longValue = append(longValue, k)
		}
		if unprintable(v) >= 0 {
			badValue = append(badValue, k)
		}
	}
	if len(badKey) > 0 {
		worst := slices.MaxFunc(badKey, func(a, b string) int { return cmp.Compare(len(a), len(b)) })
		errs = append(errs, fmt.Errorf("tag %s: a key is 1 to %d letters, digits, '-', '_' and '.'%s",
			quote(worst), maxTagKeyBytes, andOthers(badKey)))
	}
	if len(longValue) > 0 {
		worst := slices.MaxFunc(longValue, func(a, b string) int { return cmp.Compare(len(tags[a]), len(tags[b])) })
		errs = append(errs, fmt.Errorf("tag %s: its value has %d bytes, shorten it to %d%s",
			quote(worst), len(tags[worst]), maxTagValueBytes, andOthers(longValue)))
	}
	if len(badValue) > 0 {
		worst := badValue[0]
		errs = append(errs, fmt.Errorf("tag %s: its value has a character at byte %d that cannot be printed, remove it%s",
			quote(worst), unprintable(tags[worst]), andOthers(badValue)))
	}
	return errors.Join(errs...)
}

func isAlphanumeric(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
}

func isNameRune(r rune) bool { return isAlphanumeric(r) || r == '-' || r == '_' || r == '.' }

func isTagKey(s string) bool {
	return s != "" && len(s) <= maxTagKeyBytes && !strings.ContainsFunc(s, func(r rune) bool { return !isNameRune(r) })
}

// unprintable returns where in s the first byte lies that is not part of a
// printable UTF-8 character, or -1.
func unprintable(s string) int {
	for i, r := range s {
		if r == utf8.RuneError {
			if _, n := utf8.DecodeRuneInString(s[i:]); n <= 1 {
				return i
			}
		}
		if !unicode.IsPrint(r) {
			return i
		}
	}
	return -1
}

// quote returns s quoted, and of a long one only its beginning.
func quote(s string) string {
	const most = 40
	if len(s) <= most {
		return fmt.Sprintf("%q", s)
	}
	n := most
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return fmt.Sprintf("%q…", s[:n])
}

// andOthers says how many there are beside the one that was named.
func andOthers(names []string) string {
	switch n := len(names) - 1; n {
	case 0:
		return ""
	case 1:
		return " (and so 1 other)"
	default:
		return fmt.Sprintf(" (and so %d others)", n)
	}
}
