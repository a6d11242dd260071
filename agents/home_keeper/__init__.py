"""Home Keeper: notices what fails in the house, heals it by policy, tells someone.

`policy.step` decides, pure; `core` files what was decided before it is done; the rest is edges.
"""
