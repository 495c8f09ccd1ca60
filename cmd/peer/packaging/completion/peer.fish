# fish completion for peer. Install: peer completion fish >~/.config/fish/completions/peer.fish
function __peer_complete
	set -l words (commandline -opc)
	# What stands behind `--` is another command: peer is not asked.
	if contains -- -- $words
		__fish_complete_subcommand --fcs-skip=(contains -i -- -- $words)
		return
	end
	set -l cur (commandline -ct)
	command $words[1] $words[2..-1] "$cur" --generate-bash-completion 2>/dev/null
end
complete -c peer -f -a '(__peer_complete)'
