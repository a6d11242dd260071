# Made by docs/generate.py from rota's parser; do not edit.

function __rota_agents --description "Names of agents, from the unit files"
    set -l directories /etc/systemd/system /run/systemd/system /usr/local/lib/systemd/system /usr/lib/systemd/system
    if contains -- --user (commandline -opc)
        set -l config $XDG_CONFIG_HOME
        test -n "$config"; or set config $HOME/.config
        set directories $config/systemd/user /etc/systemd/user /usr/local/lib/systemd/user /usr/lib/systemd/user
    end
    for directory in $directories
        for file in $directory/rota-*.service
            string replace -r '.*/rota-(.*)\.service$' '$1' -- $file \
                | string match -rv '@|^(home-keeper|docker-proxy)$'
        end
    end
end

function __rota_verb --description "Whether one of these verbs is written, or any for none"
    set -l words (commandline -opc)
    set -e words[1]
    while set -q words[1]
        switch $words[1]
            case --config
                set -e words[1]
            case '-*'
            case '*'
                test (count $argv) -eq 0; or contains -- $words[1] $argv
                return
        end
        set -e words[1]
    end
    return 1
end

function __rota_words --description "How many words follow the verb, options left out"
    set -l words (commandline -opc)
    set -l found 0
    set -e words[1]
    while set -q words[1]
        switch $words[1]
            case --at --config --end --format --lines --output --replaced-by --rules-dir --since --state --tag --trigger --unit-dir --until --why -n
                set -e words[1]
            case '-*'
            case '*'
                set found (math $found + 1)
        end
        set -e words[1]
    end
    math $found - 1
end

complete -c rota -f
complete -c rota -s h -l help -d 'show this help message and exit'
complete -c rota -l config -r -F -d 'directory with rota.toml and agents.d/, or one JSON file (default: /etc/rota)'
complete -c rota -l user -d 'your own agents, in your user manager'
complete -c rota -l json -d 'print the result as JSON'
complete -c rota -n 'not __rota_verb' -l version -d 'print rota\'s version'
complete -c rota -n 'not __rota_verb' -a check -d 'read all declarations and report every mistake'
complete -c rota -n '__rota_verb check' -l exposure -d 'show how open each agent\'s sandbox is, and what costs what'
complete -c rota -n '__rota_verb check' -l nixos -d 'the configuration was made from NixOS options: call keys by those, and verify all units'
complete -c rota -n 'not __rota_verb' -a schema -d 'print the JSON Schema of declarations, for editors'
complete -c rota -n '__rota_verb schema; and test (__rota_words) -eq 0' -a 'agent settings config'
complete -c rota -n 'not __rota_verb' -a generate -d 'write all units into a directory of their own'
complete -c rota -n '__rota_verb generate' -l output -r -a '(__fish_complete_directories)' -d 'directory to make, or to replace as a whole; only one that rota made'
complete -c rota -n '__rota_verb generate' -l nixos -d 'the configuration was made from NixOS options: call keys by those, and verify all units'
complete -c rota -n 'not __rota_verb' -a plan -d 'show what apply would change'
complete -c rota -n '__rota_verb plan' -l unit-dir -r -a '(__fish_complete_directories)' -d 'where units are installed (default: /etc/systemd/system)'
complete -c rota -n '__rota_verb plan' -l rules-dir -r -d 'where the keeper\'s rules for polkit are installed (default: /etc/polkit-1/rules.d)'
complete -c rota -n 'not __rota_verb' -a apply -d 'install the units, let systemd reload, start the timers'
complete -c rota -n '__rota_verb apply' -l unit-dir -r -a '(__fish_complete_directories)' -d 'where units are installed (default: /etc/systemd/system)'
complete -c rota -n '__rota_verb apply' -l rules-dir -r -d 'where the keeper\'s rules for polkit are installed (default: /etc/polkit-1/rules.d)'
complete -c rota -n 'not __rota_verb' -a rearm -d 'let timers that something else has installed start afresh, instead of at once'
complete -c rota -n '__rota_verb rearm' -l replaced-by -r -d 'first step: directory with the units that are about to be installed; without it, second step'
complete -c rota -n '__rota_verb rearm' -l unit-dir -r -a '(__fish_complete_directories)' -d 'where units are installed (default: /etc/systemd/system)'
complete -c rota -n 'not __rota_verb' -a list -d 'list agents: schedule, next run, last result'
complete -c rota -n 'not __rota_verb' -a show -d 'show an agent or a run with all that is known'
complete -c rota -n '__rota_verb show; and test (__rota_words) -eq 0' -a '(__rota_agents)'
complete -c rota -n 'not __rota_verb' -a why -d 'say why an agent ran or did not, and when it will'
complete -c rota -n '__rota_verb why' -l at -r -d 'at that moment instead of the last: a date and time, or a span (2h, meaning ago)'
complete -c rota -n '__rota_verb why; and test (__rota_words) -eq 0' -a '(__rota_agents)'
complete -c rota -n 'not __rota_verb' -a run -d 'start an agent now'
complete -c rota -n '__rota_verb run' -l wait -d 'stream its output, wait, and exit with its exit status'
complete -c rota -n '__rota_verb run; and test (__rota_words) -eq 0' -a '(__rota_agents)'
complete -c rota -n 'not __rota_verb' -a stop -d 'stop the run of an agent that is under way'
complete -c rota -n '__rota_verb stop; and test (__rota_words) -eq 0' -a '(__rota_agents)'
complete -c rota -n 'not __rota_verb' -a pause -d 'keep an agent from starting, whatever its schedule, until resumed'
complete -c rota -n '__rota_verb pause' -l why -r -d 'a reason, shown by show'
complete -c rota -n '__rota_verb pause; and test (__rota_words) -eq 0' -a '(__rota_agents)'
complete -c rota -n 'not __rota_verb' -a resume -d 'let a paused agent start again'
complete -c rota -n '__rota_verb resume; and test (__rota_words) -eq 0' -a '(__rota_agents)'
complete -c rota -n 'not __rota_verb' -a logs -d 'show what an agent or one run of it logged'
complete -c rota -n '__rota_verb logs' -s f -l follow -d 'go on with what is logged from now on'
complete -c rota -n '__rota_verb logs' -s n -l lines -r -d 'only the last N lines, at most 10000'
complete -c rota -n '__rota_verb logs; and test (__rota_words) -eq 0' -a '(__rota_agents)'
complete -c rota -n 'not __rota_verb' -a runs -d 'list runs, newest first'
complete -c rota -n '__rota_verb runs' -s n -l lines -r -d 'how many, at most 10000 (default: 20)'
complete -c rota -n '__rota_verb runs' -l tag -r -d 'only of agents with this tag'
complete -c rota -n '__rota_verb runs' -l state -r -d 'only succeeded, failed, timed-out, killed, skipped, missed, unknown'
complete -c rota -n '__rota_verb runs' -l trigger -r -d 'only started by this'
complete -c rota -n '__rota_verb runs' -l since -r -d 'only begun then or later: a span (2h, meaning ago), today, yesterday, a date, or date and time'
complete -c rota -n '__rota_verb runs' -l until -r -d 'only begun before then'
complete -c rota -n '__rota_verb runs; and test (__rota_words) -eq 0' -a '(__rota_agents)'
complete -c rota -n 'not __rota_verb' -a events -d 'show what was recorded, oldest first'
complete -c rota -n '__rota_verb events' -l since -r -d 'only after this number, or from then on: 2h (ago), today, a date, or date and time'
complete -c rota -n '__rota_verb events' -s f -l follow -d 'go on with what is recorded from now on'
complete -c rota -n '__rota_verb events; and test (__rota_words) -eq 0' -a '(__rota_agents)'
complete -c rota -n 'not __rota_verb' -a stats -d 'show what runs come to: how many, how many failed, how long they took'
complete -c rota -n '__rota_verb stats' -l tag -r -d 'only of agents with this tag'
complete -c rota -n '__rota_verb stats' -l since -r -d 'from then on (default: 7d): a span (2h, meaning ago), today, yesterday, a date, or date and time'
complete -c rota -n '__rota_verb stats; and test (__rota_words) -eq 0' -a '(__rota_agents)'
complete -c rota -n 'not __rota_verb' -a export -d 'write runs as JSON lines or CSV, newest first'
complete -c rota -n '__rota_verb export' -l format -r -d 'what to write (default: jsonl)'
complete -c rota -n '__rota_verb export' -l tag -r -d 'only of agents with this tag'
complete -c rota -n '__rota_verb export' -l state -r -d 'only succeeded, failed, timed-out, killed, skipped, missed, unknown'
complete -c rota -n '__rota_verb export' -l trigger -r -d 'only started by this'
complete -c rota -n '__rota_verb export' -l since -r -d 'only begun then or later: a span (2h, meaning ago), today, yesterday, a date, or date and time'
complete -c rota -n '__rota_verb export' -l until -r -d 'only begun before then'
complete -c rota -n '__rota_verb export; and test (__rota_words) -eq 0' -a '(__rota_agents)'
complete -c rota -n 'not __rota_verb' -a notify -d 'show how channels do, what waits and what was sent; or test a channel'
complete -c rota -n '__rota_verb notify; and test (__rota_words) -eq 0' -a 'test'
complete -c rota -n '__rota_verb notify; and test (__rota_words) -eq 1' -a ''
complete -c rota -n 'not __rota_verb' -a keeper -d 'show what Home Keeper found and did; or answer it, resume a target, begin maintenance'
complete -c rota -n '__rota_verb keeper; and test (__rota_words) -eq 0' -a history -d 'list what was found and done, newest first'
complete -c rota -n '__rota_verb keeper; and __fish_seen_subcommand_from history' -s n -l lines -r -d 'how many (default: 20)'
complete -c rota -n '__rota_verb keeper; and test (__rota_words) -eq 0' -a explain -d 'say why a target is treated as it is, and what comes next'
complete -c rota -n '__rota_verb keeper; and test (__rota_words) -eq 0' -a approve -d 'have done what the keeper asks about'
complete -c rota -n '__rota_verb keeper; and test (__rota_words) -eq 0' -a deny -d 'let be what the keeper asks about, until it is well again'
complete -c rota -n '__rota_verb keeper; and test (__rota_words) -eq 0' -a resume -d 'give back what the keeper lets be'
complete -c rota -n '__rota_verb keeper; and test (__rota_words) -eq 0' -a maintenance -d 'have nothing done, nor counted, for a while'
complete -c rota -n '__rota_verb keeper; and __fish_seen_subcommand_from maintenance' -l end -r -d 'end it before its time: this, or all'
