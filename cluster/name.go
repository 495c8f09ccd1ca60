package cluster

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/peerhq/peer/cluster/internal/text"
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
		errs = append(errs, fmt.Errorf("name %s has %d bytes: shorten it to %d", text.Quote(s), len(s), maxNameBytes))
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return !isNameRune(r) }); i >= 0 {
		r, _ := utf8.DecodeRuneInString(s[i:])
		errs = append(errs, fmt.Errorf("name %s has the character %q: use letters, digits, '-', '_' and '.'", text.Quote(s), r))
	}
	if r, _ := utf8.DecodeRuneInString(s); isNameRune(r) && !text.IsAlphanumeric(r) {
		errs = append(errs, fmt.Errorf("name %s starts with %q: start it with a letter or a digit", text.Quote(s), r))
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
		errs = append(errs, fmt.Errorf("cluster label %s has %d bytes: shorten it to %d", text.Quote(s), len(s), maxLabelBytes))
	}
	if i := text.Unprintable(s); i >= 0 {
		errs = append(errs, fmt.Errorf("cluster label %s has a character at byte %d that cannot be printed: remove it", text.Quote(s), i))
	}
	if strings.TrimSpace(s) != s {
		errs = append(errs, fmt.Errorf("cluster label %s has white space around it: remove it", text.Quote(s)))
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
		if text.Unprintable(v) >= 0 {
			badValue = append(badValue, k)
		}
	}
	if len(badKey) > 0 {
		worst := slices.MaxFunc(badKey, func(a, b string) int { return cmp.Compare(len(a), len(b)) })
		errs = append(errs, fmt.Errorf("tag %s: a key is 1 to %d letters, digits, '-', '_' and '.'%s",
			text.Quote(worst), maxTagKeyBytes, andOthers(badKey)))
	}
	if len(longValue) > 0 {
		worst := slices.MaxFunc(longValue, func(a, b string) int { return cmp.Compare(len(tags[a]), len(tags[b])) })
		errs = append(errs, fmt.Errorf("tag %s: its value has %d bytes, shorten it to %d%s",
			text.Quote(worst), len(tags[worst]), maxTagValueBytes, andOthers(longValue)))
	}
	if len(badValue) > 0 {
		worst := badValue[0]
		errs = append(errs, fmt.Errorf("tag %s: its value has a character at byte %d that cannot be printed, remove it%s",
			text.Quote(worst), text.Unprintable(tags[worst]), andOthers(badValue)))
	}
	return errors.Join(errs...)
}

func isNameRune(r rune) bool { return text.IsAlphanumeric(r) || r == '-' || r == '_' || r == '.' }

func isTagKey(s string) bool {
	return s != "" && len(s) <= maxTagKeyBytes && !strings.ContainsFunc(s, func(r rune) bool { return !isNameRune(r) })
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
