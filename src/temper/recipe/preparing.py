"""Choose how the images are prepared: size, shares of the splits, colour, damage."""

from temper.recipe.budget import MOST_ASPECT, Plan
from temper.recipe.choice import Choice
from temper.recipe.looking import Findings
from temper.recipe.networks import SMALL_PX
from temper.recipe.splitting import Shares, choose_bad_share


def _explain_shape(found: Findings, height: int, width: int) -> str:
    if height == width:
        return "images become squares, whatever their shape"
    aspect = max(found.height_px, found.width_px) / found.short_px
    if aspect > MOST_ASPECT and found.short_px > SMALL_PX:
        return f"the long side is squeezed from {aspect:.1f} to {MOST_ASPECT:g} times the short one"
    return "about the shape of the median image; others are stretched to it"


def choose_preparation(found: Findings, plan: Plan, shares: Shares) -> list[Choice]:
    """Return the lines of the section `prepare`."""
    height, width = plan.size
    sides = f"sides from {found.least_px} to {found.most_px}"
    native = f"images are {found.height_px}x{found.width_px} px (median; {sides})"
    if found.short_px <= SMALL_PX:
        reason = f"{native}; small images keep their size"
    elif plan.fits:
        reason = f"{native}; the largest size that leaves time for enough epochs"
    else:
        epochs = f"{plan.teacher_epochs} epochs of the teacher and {plan.student_epochs} of the student"
        reason = (
            f"{native}; the smallest size that is tried leaves time for {epochs}: more MINUTES allow more"
        )
    lines = [
        Choice("prepare.height_px", height, reason),
        Choice("prepare.width_px", width, _explain_shape(found, height, width)),
    ]
    for name, count in (("validation", shares.validation_count), ("test", shares.test_count)):
        share = getattr(shares, name)
        of = "of the images outside the test split" if name == "validation" else "of all images"
        if share is not None:
            lines.append(Choice(f"prepare.{name}_share", share, f"{of}: about {count:,}"))
        else:
            lines.append(Choice(f"prepare.{name}_share", 0.1, f"not used: the source fixes {count:,} images"))
    bad = choose_bad_share(len(found.unreadable), found.num_sampled)
    unreadable = f"{len(found.unreadable)} of {found.num_sampled} sampled files cannot be read"
    reason = f"{unreadable}; a larger share stops the pipeline"
    colour = (
        "every sampled image is grey"
        if found.channels == 1
        else f"{1 - found.grey_share:.0%} of the sampled images have colour"
    )
    if found.mask_values:
        reason_of_values = "names for what the masks hold, which become the classes; rename them"
        lines.append(Choice("prepare.mask_values", dict(found.mask_values), reason_of_values))
    if found.hidden_share:
        background = "black" if found.hidden_share == 1 else "checker"
        reason_of_background = f"a white background would hide {found.hidden_share:.0%} of the sampled images"
        lines.append(Choice("prepare.background", background, reason_of_background))
    return [
        *lines,
        Choice("prepare.mode", "auto", f"{colour}; auto is grey only if all images are"),
        Choice("prepare.max_bad_share", bad, reason),
    ]
